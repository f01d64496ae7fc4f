//! Decompression, by what the first bytes say.

use std::fmt;
use std::io::{self, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder;

use super::error::LayerError;
use super::source::Source;
use crate::text::line;

/// Largest window of a Zstandard frame, as a power of two: 128 MiB of memory, what `zstd` accepts
/// without `--memory`. Frames of levels up to 19 have 8 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// Most characters of a decompressor's words.
const MAX_WORDS: usize = 200;

/// A source and what decompresses it.
pub(super) enum Inflate<R: Read> {
    Plain(Box<Source<R>>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<Decoder<'static, Source<R>>>),
}

impl<R: Read> fmt::Debug for Inflate<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.format())
    }
}

/// Whether a Zstandard frame begins so, one with data or one to be skipped.
fn is_zstd(bytes: &[u8]) -> bool {
    let Some(magic) = bytes.first_chunk() else { return false };
    let magic = u32::from_le_bytes(*magic);
    magic == 0xFD2F_B528 || magic & 0xFFFF_FFF0 == 0x184D_2A50
}

impl<R: Read> Inflate<R> {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// Those of the source; [`LayerError::Decompress`] if there is no memory.
    pub(super) fn new(mut source: Source<R>) -> Result<Self, LayerError> {
        let start = match source.peek(4) {
            Ok(start) => start,
            Err(error) => return Err(failed(&mut source, "its first bytes", 0, &error)),
        };
        if start.starts_with(&[0x1f, 0x8b, 0x08]) {
            return Ok(Self::Gzip(Box::new(MultiGzDecoder::new(source))));
        }
        if !is_zstd(start) {
            return Ok(Self::Plain(Box::new(source)));
        }
        let no_memory = |error: io::Error| LayerError::Decompress {
            format: "zstd",
            archive: 0,
            reason: line(&error.to_string(), MAX_WORDS),
        };
        let mut decoder = Decoder::with_buffer(source).map_err(no_memory)?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(no_memory)?;
        Ok(Self::Zstd(Box::new(decoder)))
    }

    fn format(&self) -> &'static str {
        match self {
            Self::Plain(_) => "no format",
            Self::Gzip(_) => "gzip",
            Self::Zstd(_) => "zstd",
        }
    }

    /// Reads more of the archive, of which `archive` bytes were read before. 0: it has ended.
    ///
    /// # Errors
    /// Those of the source, or [`LayerError::Decompress`].
    pub(super) fn read(&mut self, into: &mut [u8], archive: u64) -> Result<usize, LayerError> {
        let count = match self {
            Self::Plain(source) => source.read(into),
            Self::Gzip(decoder) => decoder.read(into),
            Self::Zstd(decoder) => decoder.read(into),
        };
        let format = self.format();
        count.map_err(|error| {
            let source = match self {
                Self::Plain(source) => source,
                Self::Gzip(decoder) => decoder.get_mut(),
                Self::Zstd(decoder) => decoder.get_mut(),
            };
            failed(source, format, archive, &error)
        })
    }

    pub(super) fn into_source(self) -> Source<R> {
        match self {
            Self::Plain(source) => *source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

/// What an error stands for: the source has failed, or what it gives can't be decompressed.
fn failed<R: Read>(
    source: &mut Source<R>,
    format: &'static str,
    archive: u64,
    error: &io::Error,
) -> LayerError {
    let reason = || line(&error.to_string(), MAX_WORDS);
    let own = || LayerError::Decompress { format, archive, reason: reason() };
    source.take_failure().unwrap_or_else(own)
}
