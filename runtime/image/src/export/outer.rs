//! The archive that the images' files are in.

use std::io::{self, Write};

use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::ExportError;

/// Headers, content and padding are multiples of this.
const BLOCK: usize = 512;

/// An archive of plain files. All times and owners are 0, so that the same files make the same
/// archive.
#[derive(Debug)]
pub(super) struct Outer<W> {
    out: W,
    /// Bytes of the file that is being written that are missing.
    left: u64,
    /// Bytes that fill up its last block.
    padding: usize,
}

impl<W: Write> Outer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, path: &str) -> Result<(), ExportError> {
        self.header(path, 0, EntryType::Directory)
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<(), ExportError> {
        self.begin(path, content.len() as u64)?;
        self.write_all(content).map_err(ExportError::Write)?;
        self.end()
    }

    /// Begins a file, whose content is written next.
    pub(super) fn begin(&mut self, path: &str, size: u64) -> Result<(), ExportError> {
        self.header(path, size, EntryType::Regular)?;
        let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        (self.left, self.padding) = (size, (BLOCK - over) % BLOCK);
        Ok(())
    }

    /// Ends the file.
    pub(super) fn end(&mut self) -> Result<(), ExportError> {
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&[0; BLOCK][..padding]).map_err(ExportError::Write)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<(), ExportError> {
        let ended = self.out.write_all(&[0; 2 * BLOCK]).and_then(|()| self.out.flush());
        ended.map_err(ExportError::Write)
    }

    fn header(&mut self, path: &str, size: u64, kind: EntryType) -> Result<(), ExportError> {
        let mode = if kind == EntryType::Directory { 0o755 } else { 0o644 };
        let mut entry = EntryBuilder::new_ustar();
        entry.path(path).entry_type(kind);
        let filled = entry.mode(mode).and_then(|entry| entry.size(size));
        let filled = filled.and_then(|entry| entry.uid(0)?.gid(0)?.mtime(0));
        filled.map_err(|error| ExportError::Write(io::Error::other(error)))?;
        self.out.write_all(&entry.finish_bytes()).map_err(ExportError::Write)
    }
}

/// Takes the content of the file that was begun, and no more.
impl<W: Write> Write for Outer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("a file became larger while it was read"));
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
