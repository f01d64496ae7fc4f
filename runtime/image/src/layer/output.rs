//! The output, with errors that say where it failed.

use std::io::{self, Seek, SeekFrom, Write};

/// What the system says, and where.
#[derive(Debug, thiserror::Error)]
#[error("writing {len} bytes at byte {at} of the image")]
pub struct WriteFailed {
    /// Where in the output.
    pub at: u64,
    /// Bytes that were to be written.
    pub len: usize,
    /// The system's error.
    pub source: io::Error,
}

/// An output that knows how far it is.
#[derive(Debug)]
pub(super) struct Output<W> {
    out: W,
    at: u64,
}

impl<W> Output<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, at: 0 }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes).map_err(|source| {
            let (at, len) = (self.at, bytes.len());
            io::Error::new(source.kind(), WriteFailed { at, len, source })
        })?;
        self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Seek> Seek for Output<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.out.seek(to)?;
        Ok(self.at)
    }
}
