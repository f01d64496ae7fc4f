//! Layers of images, from the bytes of a registry to an EROFS image. An input is entries of an
//! archive, with right checksums, or any bytes in their place.
//!
//! Checked besides panics:
//! - Errors are short and do nothing to a terminal.
//! - An image is read by other code than the writer's, with the checks of the target `erofs`.
//! - No attribute of overlayfs comes from the archive, and no name of AUFS.
//! - What is not of the digests and sizes that were said is refused.
//! - The same layer makes the same image, in whatever pieces it comes.
//! - No allocation is larger than the limits allow.

use std::error::Error;
use std::io::{Cursor, Read};

use arbitrary::{Arbitrary, Unstructured};
use erofs::fuzzing::{Kind, read};
use erofs::{Layout, Limits, Options};
use flate2::bufread::GzEncoder;
use image::Digest;
use image::layer::{Expected, Layer, LayerError, convert};

use crate::{hostile, limits};

/// Most bytes of an image and of an archive.
const IMAGE: u64 = 4 << 20;

/// Most bytes of one allocation: headers are read into memory that doubles.
const LARGEST: usize = 16 << 20;

/// A path of few names, so that paths meet often.
#[derive(Debug, Arbitrary)]
struct Path {
    parts: [u8; 3],
    count: u8,
    any: Vec<u8>,
}

impl Path {
    fn bytes(&self) -> Vec<u8> {
        let part = |part: &u8| match part % 16 {
            0 => b"..".to_vec(),
            1 => b".wh.a".to_vec(),
            2 => b".wh..wh..opq".to_vec(),
            3 => self.any.clone(),
            4 => vec![b'l'; 250 + usize::from(part / 16)],
            5 => Vec::new(),
            6 => b".wh..wh.x".to_vec(),
            7 => b".wh...".to_vec(),
            other => vec![b'a' + other % 4],
        };
        let count = usize::from(self.count % 4);
        self.parts[..count].iter().map(part).collect::<Vec<_>>().join(&b'/')
    }
}

#[derive(Debug, Arbitrary)]
enum Record {
    Xattr(u8, Vec<u8>),
    Number(u8, u64),
    Time(i64, u32),
    Path(Path),
    Link(Path),
    Version(u8, u8),
    Map(Vec<(u16, u8)>),
    Any(Vec<u8>, Vec<u8>),
    Raw(Vec<u8>),
}

impl Record {
    fn bytes(&self) -> Vec<u8> {
        let xattrs = [
            "user.a",
            "trusted.overlay.opaque",
            "user.overlay.redirect",
            "security.x",
            "system.posix_acl_access",
            "system.y",
            "trusted.z",
        ];
        let numbers = [
            "size",
            "uid",
            "gid",
            "mtime",
            "GNU.sparse.size",
            "GNU.sparse.realsize",
            "GNU.sparse.offset",
            "GNU.sparse.numbytes",
        ];
        let pick = |from: &[&str], at: u8| from[usize::from(at) % from.len()].as_bytes().to_vec();
        let (key, value) = match self {
            Self::Xattr(name, value) => {
                ([&b"SCHILY.xattr."[..], &pick(&xattrs, *name)].concat(), value.clone())
            }
            // Small ones are more likely to mean something.
            Self::Number(key, number) => {
                let number = if number % 4 == 0 { *number } else { number % 5000 };
                (pick(&numbers, *key), number.to_string().into_bytes())
            }
            Self::Time(seconds, fraction) => {
                (b"mtime".to_vec(), format!("{seconds}.{fraction}").into_bytes())
            }
            Self::Path(path) => (b"path".to_vec(), path.bytes()),
            Self::Link(path) => (b"linkpath".to_vec(), path.bytes()),
            Self::Version(part, number) => {
                let key = pick(&["GNU.sparse.major", "GNU.sparse.minor"], *part);
                (key, (number % 3).to_string().into_bytes())
            }
            Self::Map(map) => {
                let map: Vec<_> = map.iter().map(|(at, len)| format!("{at},{len}")).collect();
                (b"GNU.sparse.map".to_vec(), map.join(",").into_bytes())
            }
            Self::Any(key, value) => (key.clone(), value.clone()),
            Self::Raw(bytes) => return bytes.clone(),
        };
        let rest = [b" ", &key[..], b"=", &value, b"\n"].concat();
        let fits = |digits: &usize| (rest.len() + digits).to_string().len() == *digits;
        let digits = (1..9).find(fits).unwrap();
        [(rest.len() + digits).to_string().as_bytes(), &rest].concat()
    }
}

#[derive(Debug, Arbitrary)]
struct Header {
    kind: u8,
    path: Path,
    link: Path,
    magic: u8,
    numbers: [u16; 6],
    size: Option<u16>,
    patch: Vec<(u16, u8)>,
    pax: Vec<Record>,
    content: Vec<u8>,
    zeros: u16,
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let kinds = b"0123456\0\x30\x35SgLKxZ7";
        let kind = kinds[usize::from(self.kind) % kinds.len()];
        let mut bytes = Vec::new();
        if !self.pax.is_empty() {
            let records: Vec<u8> = self.pax.iter().flat_map(Record::bytes).collect();
            bytes.extend(self.header(b'x', b"pax", records.len(), false));
            push(&mut bytes, &records);
        }
        let mut content = self.content.clone();
        content.resize(content.len() + usize::from(self.zeros % 5000), 0);
        let len = self.size.map_or(content.len(), usize::from);
        bytes.extend(self.header(kind, &self.path.bytes(), len, true));
        push(&mut bytes, &content);
        bytes
    }

    fn header(&self, kind: u8, path: &[u8], size: usize, patched: bool) -> [u8; 512] {
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        let link = self.link.bytes();
        put(0, &path[..path.len().min(100)]);
        let octal = |number: u16| format!("{number:07o}").into_bytes();
        let [mode, uid, gid, mtime, major, minor] = self.numbers;
        for (at, number) in [(100, mode), (108, uid), (116, gid), (136, mtime)] {
            put(at, &octal(number));
        }
        put(124, format!("{size:011o}").as_bytes());
        put(156, &[kind]);
        put(157, &link[..link.len().min(100)]);
        let magics = [b"ustar\x0000", b"ustar  \0", &[0; 8], b"ustar\x0000"];
        put(257, magics[usize::from(self.magic) % magics.len()]);
        put(329, &octal(major % 4200));
        put(337, &octal(minor));
        for (at, byte) in self.patch.iter().filter(|_| patched) {
            put(usize::from(*at) % 512, &[*byte]);
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }
}

/// Appends bytes, and zeros up to the next block.
fn push(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(bytes);
    to.resize(to.len().next_multiple_of(512), 0);
}

#[derive(Debug, Arbitrary)]
enum Part {
    Header(Header),
    Blocks(Vec<u8>),
    Zeros(u8),
}

#[derive(Debug, Arbitrary)]
struct Start {
    compression: u8,
    /// A byte of what comes, to be changed.
    damage: Option<(u16, u8)>,
    cut: Option<u16>,
    /// What is wrong in what the manifest says.
    wrong: u8,
    inline: bool,
    pieces: u8,
}

fn archive(input: &mut Unstructured<'_>) -> Vec<u8> {
    let mut archive = Vec::new();
    while !input.is_empty() {
        match Part::arbitrary(input) {
            Ok(Part::Header(header)) => archive.extend(header.bytes()),
            Ok(Part::Blocks(bytes)) => push(&mut archive, &bytes),
            Ok(Part::Zeros(blocks)) => archive.resize(archive.len() + usize::from(blocks) * 512, 0),
            Err(_) => break,
        }
    }
    archive
}

fn compressed(start: &Start, archive: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match start.compression % 4 {
        0 => {
            let mut encoder = GzEncoder::new(archive, flate2::Compression::fast());
            encoder.read_to_end(&mut bytes).unwrap();
        }
        1 => bytes = zstd::encode_all(archive, 1).unwrap(),
        _ => bytes.extend(archive),
    }
    if let Some((at, byte)) = start.damage {
        let len = bytes.len().max(1);
        if let Some(damaged) = bytes.get_mut(usize::from(at) % len) {
            *damaged = byte;
        }
    }
    bytes.truncate(start.cut.map_or(usize::MAX, usize::from));
    bytes
}

/// A source that gives few bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = into.len().min(self.1);
        self.0.read(&mut into[..most])
    }
}

fn converted(source: impl Read, expected: &Expected, start: &Start) -> (Vec<u8>, Option<Layer>) {
    let layout = if start.inline { Layout::Inline } else { Layout::Plain };
    let limits = Limits { image: IMAGE, entries: 1000, ..Limits::default() };
    let options = Options { layout, limits, ..Options::default() };
    let mut image = Vec::new();
    let done = convert(source, expected, Cursor::new(&mut image), options);
    (image, done.inspect_err(said).ok())
}

fn said(error: &LayerError) {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        hostile::check(&error.to_string());
        cause = error.source();
    }
}

fn check(image: &[u8], layer: &Layer) {
    assert_eq!(layer.image.bytes, image.len() as u64);
    for (path, found) in &read(image).unwrap() {
        let names = path.split(|byte| *byte == b'/');
        assert!(!names.into_iter().any(|name| name.starts_with(b".wh..wh.")));
        for (name, value) in &found.entry.xattrs {
            let own = match name.as_slice() {
                b"trusted.overlay.opaque" => value == b"y",
                b"trusted.overlay.origin" => value.is_empty(),
                name => !name.starts_with(b"trusted.") && !name.starts_with(b"user.overlay."),
            };
            let of_overlay = name.starts_with(b"trusted.");
            assert!(own, "{}", name.escape_ascii());
            assert!(!of_overlay || found.entry.kind == Kind::Directory);
        }
    }
    layer.dropped.names.keys().for_each(|name| hostile::check(name));
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(start) = Start::arbitrary(&mut input) else { return };
    let archive = archive(&mut input);
    let bytes = compressed(&start, &archive);
    let mut expected =
        Expected { digest: Digest::of(&bytes), size: bytes.len() as u64, diff_id: None };
    match start.wrong % 16 {
        0 => expected.digest = Digest::of(b"something else"),
        1 => expected.size += 1,
        2 => expected.size = expected.size.saturating_sub(1),
        3 => expected.diff_id = Some(Digest::of(b"something else")),
        _ => {}
    }
    let wrong = start.wrong % 16 < 4 && !(bytes.is_empty() && start.wrong % 16 == 2);
    limits::within(LARGEST, || {
        let (image, layer) = converted(&bytes[..], &expected, &start);
        assert!(layer.is_none() || !wrong, "a layer that is not what was said");
        if let Some(layer) = &layer {
            check(&image, layer);
        }
        let pieces = usize::from(start.pieces) * 7 + 1;
        let (again, other) = converted(Pieces(&bytes, pieces), &expected, &start);
        // Zstandard's library compares a frame with the size that it says only when it gets the whole
        // of it at once. What such a frame holds is the diff_id's to decide.
        if start.damage.is_none() || layer.is_some() && other.is_some() {
            assert_eq!(other, layer);
            assert!(layer.is_none() || image == again);
        }
    });
}
