//! The archive, entry by entry. The tar library reads headers; content only passes by.

use std::io::Read;

use tar_core::parse::{Limits, ParseEvent, Parser};

use super::entry::Entry;
use super::error::{LayerError, shown};
use super::inflate::Inflate;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::text::line;

/// Bytes that are decompressed at once.
const BUFFER: usize = 256 << 10;

/// Headers, content and padding are multiples of this.
const BLOCK: u64 = 512;

/// Most bytes of the headers of one entry. Maps of sparse files make them long.
const MAX_HEADERS: usize = 16 << 20;

/// What the tar library may keep of one entry's headers.
const LIMITS: Limits = Limits {
    max_metadata_size: 1 << 20,
    max_path_len: Some(4096),
    max_pending_entries: 16,
    max_sparse_entries: 1 << 18,
};

/// Most characters of the tar library's words, which may repeat what is in a header.
const MAX_WORDS: usize = 300;

/// An archive that is being read.
#[derive(Debug)]
pub(super) struct Archive<R: Read> {
    inflate: Inflate<R>,
    parser: Parser,
    hasher: Hasher,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    /// Bytes that were decompressed.
    taken: u64,
    limit: u64,
    /// Bytes of the entry's content and padding that follow.
    left: u64,
    /// The entry, for errors.
    path: Vec<u8>,
}

/// What the next headers are.
enum Next {
    Entry(Box<Entry>),
    /// Defaults for all entries, which Go's `archive/tar` does not apply.
    Global,
    More(usize),
    End,
}

impl<R: Read> Archive<R> {
    /// Begins an archive of at most `limit` bytes.
    pub(super) fn new(inflate: Inflate<R>, algorithm: Algorithm, limit: u64) -> Self {
        let mut parser = Parser::new(LIMITS);
        // It knows no times before 1970; see `pax`.
        parser.set_ignore_pax_errors(true);
        let (hasher, buffer) = (Hasher::new(algorithm), vec![0; BUFFER]);
        let (start, end, ended, taken, left, path) = (0, 0, false, 0, 0, Vec::new());
        Self { inflate, parser, hasher, buffer, start, end, ended, taken, limit, left, path }
    }

    /// The next entry. What was not read of the last one's content is skipped.
    ///
    /// # Errors
    /// [`LayerError`].
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        self.content(self.left, |_| Ok(()))?;
        let mut wanted = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        loop {
            self.fill(wanted)?;
            let (consumed, next) = self.parse()?;
            self.start += consumed;
            match next {
                Next::Entry(entry) => {
                    self.left = entry.stored.next_multiple_of(BLOCK);
                    self.path.clone_from(&entry.path);
                    return Ok(Some(*entry));
                }
                Next::Global => {}
                Next::End => return Ok(None),
                Next::More(_) if self.ended => return self.end_of_headers().map(|()| None),
                Next::More(least) => wanted = self.more_headers(wanted, least)?,
            }
        }
    }

    /// How many bytes of headers to ask for, if `least` are needed. The library begins anew each
    /// time: twice as much makes few times.
    fn more_headers(&self, wanted: usize, least: usize) -> Result<usize, LayerError> {
        if least.max(self.end - self.start) >= MAX_HEADERS {
            let reason = format!("the headers of an entry have more than {MAX_HEADERS} bytes");
            return Err(LayerError::Archive { at: self.position(), reason });
        }
        Ok(least.max(2 * wanted).min(MAX_HEADERS))
    }

    /// Without the last of the blocks that say so, it is the archive's end too, as in Go.
    fn end_of_headers(&self) -> Result<(), LayerError> {
        let rest = &self.buffer[self.start..self.end];
        let is_end = rest.len().is_multiple_of(512) && rest.iter().all(|byte| *byte == 0);
        if is_end { Ok(()) } else { Err(self.truncated("headers")) }
    }

    fn parse(&mut self) -> Result<(usize, Next), LayerError> {
        let at = self.position();
        let input = &self.buffer[self.start..self.end];
        let event = self.parser.parse(input).map_err(|error| {
            let reason = line(&error.to_string(), MAX_WORDS);
            LayerError::Archive { at, reason }
        })?;
        let entry = |entry| Next::Entry(Box::new(entry));
        Ok(match event {
            ParseEvent::NeedData { min_bytes } => (0, Next::More(min_bytes)),
            ParseEvent::Entry { consumed, entry: parsed } => {
                (consumed, entry(Entry::new(&parsed, None)?))
            }
            ParseEvent::SparseEntry { consumed, entry: parsed, sparse_map, real_size } => {
                (consumed, entry(Entry::new(&parsed, Some((sparse_map, real_size)))?))
            }
            ParseEvent::GlobalExtensions { consumed, .. } => (consumed, Next::Global),
            ParseEvent::End { consumed } => (consumed, Next::End),
        })
    }

    /// Gives the next `len` bytes of the entry's content to `sink`, in parts.
    ///
    /// # Errors
    /// [`LayerError`], also those of `sink`.
    pub(super) fn content(
        &mut self,
        len: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut missing = len.min(self.left);
        while missing > 0 {
            if self.start == self.end && !self.more()? {
                let path = shown(&self.path);
                return Err(self.truncated(&format!("entry \"{path}\"")));
            }
            let there = &self.buffer[self.start..self.end];
            let most = usize::try_from(missing).unwrap_or(usize::MAX);
            let part = there.get(..most).unwrap_or(there);
            let count = part.len();
            sink(part)?;
            self.start += count;
            missing -= as_u64(count);
            self.left -= as_u64(count);
        }
        Ok(())
    }

    /// Takes what follows the archive's end: padding, mostly.
    ///
    /// # Errors
    /// [`LayerError`].
    pub(super) fn drain(&mut self) -> Result<(), LayerError> {
        self.start = self.end;
        while self.more()? {
            self.start = self.end;
        }
        Ok(())
    }

    /// The archive's name, and its size in bytes, once it was drained.
    ///
    /// # Errors
    /// [`LayerError::Source`] or [`LayerError::Content`] if the source is not as was said.
    pub(super) fn finish(self) -> Result<(Digest, u64), LayerError> {
        self.inflate.into_source().finish()?;
        Ok((self.hasher.finish(), self.taken))
    }

    /// What is behind an error of the content: that it is not the right one, if it is not.
    pub(super) fn into_cause(self, error: LayerError) -> LayerError {
        match self.inflate.into_source().finish() {
            Err(mismatch @ LayerError::Content(_)) => mismatch,
            _ => error,
        }
    }

    /// Bytes of the archive before what is read next.
    fn position(&self) -> u64 {
        self.taken - as_u64(self.end - self.start)
    }

    fn truncated(&self, what: &str) -> LayerError {
        LayerError::Truncated { what: what.to_owned(), archive: self.taken }
    }

    /// Reads until so many bytes are there, or all.
    fn fill(&mut self, wanted: usize) -> Result<(), LayerError> {
        while self.end - self.start < wanted && self.more()? {}
        Ok(())
    }

    /// Decompresses more behind what is there. Whether there was more.
    fn more(&mut self) -> Result<bool, LayerError> {
        if self.ended {
            return Ok(false);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.end, 0);
        }
        let count = self.inflate.read(&mut self.buffer[self.end..], self.taken)?;
        self.hasher.update(&self.buffer[self.end..self.end + count]);
        self.end += count;
        self.taken += as_u64(count);
        self.ended = count == 0;
        if self.taken > self.limit {
            let what = match self.path.as_slice() {
                [] => "its start".to_owned(),
                path => format!("entry \"{}\"", shown(path)),
            };
            return Err(LayerError::TooLarge { what, limit: self.limit });
        }
        Ok(!self.ended)
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
