//! The bytes of the registry, checked as they pass.

use std::io::{self, BufRead, ErrorKind, Read};

use super::error::LayerError;
use crate::digest::{Digest, Verifier};

/// Bytes that are asked for at once.
const BUFFER: usize = 128 << 10;

/// A source whose size and digest are checked. It never ends early: where bytes are missing, there
/// is an error instead of the end.
#[derive(Debug)]
pub(super) struct Source<R> {
    reader: R,
    layer: Digest,
    size: u64,
    verifier: Verifier,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    ended: bool,
    /// What an [`io::Error`] of this stands for, which passes through decompressors.
    failure: Option<LayerError>,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R, layer: Digest, size: u64) -> Self {
        let verifier = Verifier::new(layer.clone(), Some(size));
        let buffer = vec![0; BUFFER].into_boxed_slice();
        let (start, end, ended, failure) = (0, 0, false, None);
        Self { reader, layer, size, verifier, buffer, start, end, ended, failure }
    }

    /// The first bytes: `count` of them, or all that there are.
    ///
    /// # Errors
    /// As [`BufRead::fill_buf`].
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.end < count && !self.ended {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// What is behind an error of [`BufRead::fill_buf`]; none, if it is not of this source.
    pub(super) fn take_failure(&mut self) -> Option<LayerError> {
        self.failure.take()
    }

    /// Reads what is left, and checks the whole.
    ///
    /// # Errors
    /// [`LayerError::Source`] or [`LayerError::Content`].
    pub(super) fn finish(mut self) -> Result<(), LayerError> {
        while !self.ended {
            self.start = self.end;
            if let Err(source) = self.fill_buf() {
                let taken = self.verifier.taken();
                let own = LayerError::Source { layer: self.layer, taken, size: self.size, source };
                return Err(self.failure.unwrap_or(own));
            }
        }
        self.verifier.finish().map(|_| ()).map_err(LayerError::Content)
    }

    /// Reads more behind what there is.
    fn refill(&mut self) -> io::Result<()> {
        let count = loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let (layer, taken) = (self.layer.clone(), self.verifier.taken());
                    let error = LayerError::Source { layer, taken, size: self.size, source };
                    return Err(self.fail(error));
                }
                Ok(count) => break count,
            }
        };
        let new = &self.buffer[self.end..self.end + count];
        if let Err(mismatch) = self.verifier.update(new) {
            return Err(self.fail(LayerError::Content(mismatch)));
        }
        self.end += count;
        self.ended = count == 0;
        if self.ended && self.verifier.taken() < self.size {
            let Err(mismatch) = self.verifier.clone().finish() else { return Ok(()) };
            return Err(self.fail(LayerError::Content(mismatch)));
        }
        Ok(())
    }

    /// Ends the source.
    fn fail(&mut self, error: LayerError) -> io::Error {
        self.ended = true;
        self.failure = Some(error);
        io::Error::other("the source has failed")
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end && !self.ended {
            (self.start, self.end) = (0, 0);
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}
