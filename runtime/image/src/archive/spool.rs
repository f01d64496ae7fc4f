//! A stream, kept as a file: what an archive has of an image comes in any order.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder;

use super::ArchiveError;

/// Most bytes of an archive, decompressed.
const MAX_BYTES: u64 = 256 << 30;

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

/// Largest window of a Zstandard frame, as for layers.
const WINDOW_LOG_MAX: u32 = 27;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Whether a file can be read in any order, and is not compressed.
pub(super) fn is_plain(file: &File) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut start = [0; 4];
    let count = file.read_at(&mut start, 0)?;
    Ok(!begins_compressed(&start[..count]))
}

/// Whether what is read next is compressed.
pub(super) fn is_compressed(from: impl Read) -> io::Result<bool> {
    let mut start = Vec::new();
    from.take(4).read_to_end(&mut start)?;
    Ok(begins_compressed(&start))
}

fn begins_compressed(start: &[u8]) -> bool {
    // A frame to be skipped may be the first, too.
    let skipped = start.get(1..4) == Some(&[0x2a, 0x4d, 0x18]) && start[0] & 0xf0 == 0x50;
    start.starts_with(GZIP) || start.starts_with(ZSTD) || skipped
}

/// Writes what a stream has, decompressed.
pub(super) fn fill(stream: impl Read, into: &File) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::Read { what: "the archive".to_owned(), source };
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let start = stream.fill_buf().map_err(failed)?;
    if start.starts_with(GZIP) {
        return copy(MultiGzDecoder::new(stream), into);
    }
    if !start.starts_with(ZSTD) {
        return copy(stream, into);
    }
    let mut decoder = Decoder::with_buffer(stream).map_err(failed)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
    copy(decoder, into)
}

fn copy(mut from: impl Read, mut into: &File) -> Result<(), ArchiveError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| ArchiveError::Read { what, source }
    };
    let mut buffer = vec![0; BUFFER];
    let mut taken = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count.map_err(failed("the archive"))?,
        };
        if count == 0 {
            return Ok(());
        }
        taken += count as u64;
        if taken > MAX_BYTES {
            return Err(ArchiveError::TooMany { what: "bytes", limit: MAX_BYTES });
        }
        into.write_all(&buffer[..count]).map_err(failed("what is kept of the archive"))?;
    }
}
