//! The bytes around the archive: compression, digests, sizes, failures.

use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};

use erofs::Options;
use flate2::write::GzEncoder;
use image::Digest;
use image::layer::{Expected, Layer, LayerError, convert};

use crate::convert::{chain, expected, image};
use crate::tar::{archive, directory, file, symlink};

fn sample() -> Vec<u8> {
    archive(&[
        directory("usr"),
        file("usr/some", &b"some text ".repeat(1000)),
        file("usr/empty", b""),
        symlink("link", "usr/some"),
    ])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A Zstandard frame that is to be skipped, as those of `zstd:chunked` with its table of contents.
fn skippable(content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&0x184D_2A50_u32.to_le_bytes()[..], &len, content].concat()
}

fn parts(bytes: &[u8], compress: fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    bytes.chunks(3000).map(compress).collect()
}

fn run(source: impl Read, expected: &Expected) -> Result<Layer, LayerError> {
    convert(source, expected, Cursor::new(Vec::new()), Options::default())
}

/// A source that gives one byte at a time.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(1);
        self.0.read(&mut into[..most])
    }
}

#[test]
fn all_compressions_make_the_same_image() {
    let tar = sample();
    let (plain, _) = image(&tar);
    let chunked = [skippable(b"first"), parts(&tar, zstd).concat(), skippable(&[7; 9000])].concat();
    for compressed in [
        tar.clone(),
        gzip(&tar),
        parts(&tar, gzip).concat(),
        [gzip(&tar), gzip(b"")].concat(),
        zstd(&tar),
        parts(&tar, zstd).concat(),
        chunked,
    ] {
        let expected = expected(&compressed, &tar);
        let mut image = Vec::new();
        let output = Cursor::new(&mut image);
        let layer = convert(&compressed[..], &expected, output, Options::default()).unwrap();
        assert_eq!(image, plain);
        assert_eq!(Some(layer.diff_id), expected.diff_id);
        assert_eq!(layer.archive, tar.len() as u64);
        assert_eq!(layer.image.bytes, image.len() as u64);
        let mut slow = Vec::new();
        let source = Slow(&compressed);
        convert(source, &expected, Cursor::new(&mut slow), Options::default()).unwrap();
        assert_eq!(slow, plain);
    }
}

#[test]
fn what_follows_the_end_counts_for_the_digests() {
    let mut tar = sample();
    tar.extend([0; 10_240]);
    tar.extend(b"no header");
    let compressed = gzip(&tar);
    let layer = run(&compressed[..], &expected(&compressed, &tar)).unwrap();
    assert_eq!(layer.diff_id, Digest::of(&tar));
    let nobody_said = Expected { diff_id: None, ..expected(&compressed, &tar) };
    assert_eq!(run(&compressed[..], &nobody_said).unwrap().diff_id, Digest::of(&tar));
    let said = Digest::of(&sample());
    let wrong = Expected { diff_id: Some(said.clone()), ..nobody_said };
    let refused = chain(&run(&compressed[..], &wrong).unwrap_err());
    let found = Digest::of(&tar);
    assert_eq!(
        refused,
        format!(
            "the layer's archive is not what the image's configuration says: content of {said} \
             hashes to {found}"
        )
    );
}

#[test]
fn garbage_behind_compressed_data_is_refused() {
    let tar = sample();
    for compress in [gzip, zstd] {
        for garbage in [&b"garbage garbage"[..], &[0; 512], &[0x1f]] {
            let compressed = [&compress(&tar), garbage].concat();
            let refused = run(&compressed[..], &expected(&compressed, &tar)).unwrap_err();
            assert!(matches!(refused, LayerError::Decompress { .. }), "{refused}");
        }
    }
}

#[test]
fn sizes_and_digests_have_to_be_right() {
    let tar = sample();
    for compressed in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let right = expected(&compressed, &tar);
        let other = Digest::of(b"other");
        for (wrong, words) in [
            (Expected { digest: other.clone(), ..right.clone() }, "hashes to"),
            (Expected { size: right.size - 1, ..right.clone() }, "is longer than the"),
            (Expected { size: right.size + 1, ..right.clone() }, "ended after"),
            (Expected { size: 0, ..right.clone() }, "is longer than the"),
        ] {
            let refused = run(&compressed[..], &wrong).unwrap_err();
            assert!(matches!(refused, LayerError::Content(_)), "{refused}");
            assert!(chain(&refused).contains(words), "{}", chain(&refused));
        }
        let wrong = Expected { diff_id: Some(other), ..right };
        let refused = run(&compressed[..], &wrong).unwrap_err();
        assert!(matches!(refused, LayerError::DiffId(_)), "{refused}");
    }
}

#[test]
fn an_image_of_wrong_content_has_no_magic_number() {
    let tar = sample();
    let wrong = Expected { diff_id: Some(Digest::of(b"")), ..expected(&tar, &tar) };
    let mut image = Vec::new();
    convert(&tar[..], &wrong, Cursor::new(&mut image), Options::default()).unwrap_err();
    assert!(image.iter().take(4096).all(|byte| *byte == 0));
}

#[test]
fn more_than_was_announced_is_not_read() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 += into.len() as u64;
            assert!(self.0 < 1 << 20, "read on and on");
            into.fill(0);
            Ok(into.len())
        }
    }
    let expected = Expected { size: 10_000, ..expected(b"", b"") };
    let refused = run(Endless(0), &expected).unwrap_err();
    assert!(matches!(refused, LayerError::Content(_)), "{refused}");
}

#[test]
fn cut_layers_are_refused_at_every_step() {
    let tar = sample();
    for compressed in [tar.clone(), gzip(&tar), parts(&tar, gzip).concat(), zstd(&tar)] {
        let step = if compressed.len() < 1000 { 1 } else { 512 };
        let right = expected(&compressed, &tar);
        for end in (0..compressed.len()).step_by(step) {
            let cut = &compressed[..end];
            let refused = run(cut, &right).unwrap_err();
            assert!(matches!(refused, LayerError::Content(_)), "{end}: {refused}");
            // The same from a registry that has no more, and says so.
            let honest = expected(cut, &tar);
            let refused = run(cut, &honest).unwrap_err();
            let of_archive = matches!(
                refused,
                LayerError::Decompress { .. }
                    | LayerError::Truncated { .. }
                    | LayerError::DiffId(_)
            );
            assert!(of_archive, "{end}: {refused}");
        }
    }
    // What holds the content has to be whole, whatever the digests say.
    for end in [1, 511, 513, 1023, 1537, 2048, 11_775] {
        let refused = run(&tar[..end], &expected(&tar[..end], &tar[..end])).unwrap_err();
        assert!(matches!(refused, LayerError::Truncated { .. }), "{end}: {refused}");
    }
}

#[test]
fn damage_is_the_sources_fault_unless_the_digest_is_right() {
    let tar = sample();
    let mut damaged = gzip(&tar);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let refused = run(&damaged[..], &expected(&gzip(&tar), &tar)).unwrap_err();
    assert!(matches!(refused, LayerError::Content(_)), "{refused}");
    let refused = run(&damaged[..], &expected(&damaged, &tar)).unwrap_err();
    let of_archive = matches!(refused, LayerError::Decompress { .. } | LayerError::Archive { .. });
    assert!(of_archive, "{refused}");
}

#[test]
fn bombs_end_at_the_limit() {
    let mut options = Options::default();
    options.limits.image = 1 << 20;
    let big = archive(&[file("small", b""), file("bomb", &vec![0; 64 << 20])]);
    let behind = [archive(&[file("last", b"")]), vec![0; 64 << 20]].concat();
    for (tar, words) in [
        (big, "entry \"bomb\""),
        (behind, "the layer's archive has more than 1048576 bytes, at entry \"last\""),
    ] {
        for compressed in [gzip(&tar), zstd(&tar)] {
            let mut image = Vec::new();
            let output = Cursor::new(&mut image);
            let refused = convert(&compressed[..], &expected(&compressed, &tar), output, options);
            let refused = chain(&refused.unwrap_err());
            assert!(refused.contains(words) && refused.contains("1048576"), "{refused}");
            assert!(image.len() <= 1 << 20);
        }
    }
}

#[test]
fn a_source_that_fails_says_so() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into) {
                Ok(0) => Err(io::Error::new(ErrorKind::TimedOut, "no byte for a minute")),
                read => read,
            }
        }
    }
    let tar = sample();
    for compressed in [tar.clone(), gzip(&tar), zstd(&tar)] {
        for end in [0, 2, 100, compressed.len() - 1] {
            let refused = run(Failing(&compressed[..end]), &expected(&compressed, &tar));
            let Err(LayerError::Source { taken, source, .. }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!((taken, source.kind()), (end as u64, ErrorKind::TimedOut));
        }
    }
}

/// An output with room for so many bytes.
struct Small {
    bytes: Cursor<Vec<u8>>,
    room: u64,
}

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room.saturating_sub(self.bytes.position());
        match usize::try_from(room).unwrap().min(bytes.len()) {
            0 => Err(ErrorKind::StorageFull.into()),
            count => self.bytes.write(&bytes[..count]),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Small {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

#[test]
fn a_full_disk_is_an_error_at_every_byte() {
    let big = [file("big", &vec![b'x'; 600_000]), file("small", b"y"), directory("last")];
    for tar in [sample(), archive(&big)] {
        let (image, _) = image(&tar);
        let step = if image.len() < 100_000 { 7 } else { 4099 };
        for room in (0..image.len() as u64).step_by(step) {
            let output = Small { bytes: Cursor::default(), room };
            let refused = convert(&tar[..], &expected(&tar, &tar), output, Options::default());
            let refused = refused.unwrap_err();
            let text = chain(&refused);
            let LayerError::Output { source, .. } = refused else { panic!("{room}: {refused:?}") };
            assert_eq!(source.kind(), ErrorKind::StorageFull);
            assert!(text.contains(&format!("at byte {room} of the image")), "{room}: {text}");
        }
    }
}

#[test]
fn a_temporary_file_is_gone_unless_it_is_kept() {
    let staging = tempfile::tempdir().unwrap();
    let tar = sample();
    let wrong = Expected { size: 5, ..expected(&tar, &tar) };
    let mut output = tempfile::NamedTempFile::new_in(staging.path()).unwrap();
    convert(&tar[..], &wrong, &mut output, Options::default()).unwrap_err();
    drop(output);
    assert_eq!(std::fs::read_dir(staging.path()).unwrap().count(), 0);

    let mut output = tempfile::NamedTempFile::new_in(staging.path()).unwrap();
    convert(&tar[..], &expected(&tar, &tar), &mut output, Options::default()).unwrap();
    let kept = staging.path().join("layer.erofs");
    output.persist(&kept).unwrap();
    assert_eq!(std::fs::read(kept).unwrap(), image(&tar).0);
}

/// A frame that says how much memory a decoder needs, by the exponent of its window (RFC 8878,
/// "Window Descriptor"), and has an empty archive in one block.
fn frame_of_window(exponent: u8) -> Vec<u8> {
    let block = 1_u32 | 1024 << 3;
    let head = [0x28, 0xb5, 0x2f, 0xfd, 0, (exponent - 10) << 3];
    [&head[..], &block.to_le_bytes()[..3], &[0; 1024]].concat()
}

/// The attack: few bytes that make the decoder take gigabytes.
#[test]
fn frame_that_needs_much_memory_is_refused() {
    let made = |exponent| {
        let frame = frame_of_window(exponent);
        let expected = expected(&frame, &[0; 1024]);
        convert(&*frame, &expected, Cursor::new(Vec::new()), Options::default())
    };
    assert_eq!(made(27).unwrap().archive, 1024);
    for exponent in [28, 31, 41] {
        let error = chain(&made(exponent).unwrap_err());
        assert!(error.contains("decompressing the layer by zstd"), "{exponent}: {error}");
        assert!(error.contains("memory"), "{exponent}: {error}");
    }
}
