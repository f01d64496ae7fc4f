//! The content of a regular file, on its way into the image.

use std::io::{self, Seek, Write};

use crate::disk::{BLOCK_U64, NO_BLOCK};
use crate::error::Error;
use crate::limits::{Layout, MAX_FILE};
use crate::meta::Attributes;
use crate::output::{Output, zeros};
use crate::plan::tail_size;
use crate::tree::{Body, Content, Holes, Rest, Spot, Tree};

/// Most chunks of a sparse file. Their addresses take 1 MiB of metadata.
const MAX_CHUNKS: u64 = 1 << 18;

/// Takes the content of a regular file in order, as [`Write`] and by [`Self::hole`].
///
/// The file is in the image when [`Self::finish`] has succeeded. Without that, the entry that had
/// its path before is still there, and what was written takes room to no avail.
#[derive(Debug)]
pub struct FileWriter<'a, W: Write + Seek> {
    output: &'a mut Output<W>,
    tree: &'a mut Tree,
    spot: Spot,
    attributes: Attributes,
    /// As announced, in bytes.
    size: u64,
    /// The first block, if there is any data.
    block: u32,
    /// Bytes that have been taken.
    done: u64,
    /// Bytes of a hole after those, whose end is not known yet.
    pending: u64,
    chunk_bits: u8,
    holes: Vec<(u32, u32)>,
    /// Content from `tail_start` on, unless there are holes.
    tail: Vec<u8>,
    tail_start: u64,
}

impl<'a, W: Write + Seek> FileWriter<'a, W> {
    /// Begins a file of `size` bytes.
    ///
    /// # Errors
    /// [`Error::Limit`] or [`Error::Io`].
    pub(crate) fn new(
        (output, tree): (&'a mut Output<W>, &'a mut Tree),
        spot: Spot,
        attributes: Attributes,
        size: u64,
        layout: Layout,
    ) -> Result<Self, Error> {
        if size > MAX_FILE {
            return Err(Error::Limit { what: "bytes in one file", limit: MAX_FILE });
        }
        let tail = tail_size(size);
        let inline = layout == Layout::Inline && tree.has_room_for_tail(tail);
        let tail_start = if inline { size - tail } else { size };
        let block = output.align()?;
        let (done, pending, chunk_bits) = (0, 0, chunk_bits(size));
        let (holes, tail) = (Vec::new(), Vec::new());
        Ok(Self {
            output,
            tree,
            spot,
            attributes,
            size,
            block,
            done,
            pending,
            chunk_bits,
            holes,
            tail,
            tail_start,
        })
    }

    /// Skips `len` bytes, which read as zeros.
    ///
    /// Blocks that lie within the hole take no room in the image. Files of more than 1 GiB have
    /// chunks of several blocks, and what is not a whole chunk is written as zeros.
    ///
    /// # Errors
    /// [`Error::Length`] if the hole goes beyond the file's end.
    pub fn hole(&mut self, len: u64) -> Result<(), Error> {
        self.check_room(len)?;
        self.pending += len;
        Ok(())
    }

    /// Ends the file and puts it into the tree, in place of what had its path.
    ///
    /// # Errors
    /// [`Error::Length`] if content is missing, [`Error::Limit`] or [`Error::Io`].
    pub fn finish(mut self) -> Result<(), Error> {
        self.settle()?;
        if self.done < self.size {
            return Err(Error::Length { size: self.size });
        }
        let rest = if !self.holes.is_empty() {
            Rest::Holes(Box::new(Holes { chunk_bits: self.chunk_bits, holes: self.holes }))
        } else if !self.tail.is_empty() {
            Rest::Tail(self.tail.into_boxed_slice())
        } else {
            Rest::None
        };
        let block = if self.tail_start == 0 { NO_BLOCK } else { self.block };
        let content = Content { size: self.size, block, rest };
        self.tree.put(self.spot, self.attributes, Body::File(content))?;
        Ok(())
    }

    /// Whether so many bytes more are not more than were announced.
    fn check_room(&self, len: u64) -> Result<(), Error> {
        let left = self.size - self.done - self.pending;
        if len > left { Err(Error::Length { size: self.size }) } else { Ok(()) }
    }

    /// Decides what becomes of a hole whose end is known. Nothing overflows here: no position is
    /// beyond [`MAX_FILE`].
    fn settle(&mut self) -> Result<(), Error> {
        let end = self.done + self.pending;
        self.pending = 0;
        let chunk = BLOCK_U64 << self.chunk_bits;
        let first = self.done.div_ceil(chunk);
        let last = if end == self.size { end.div_ceil(chunk) } else { end / chunk };
        if first < last {
            self.put_zeros(first * chunk)?;
            let number = |chunk| u32::try_from(chunk).unwrap_or(u32::MAX);
            self.holes.push((number(first), number(last)));
            self.done = (last * chunk).min(self.size);
        }
        self.put_zeros(end)
    }

    fn put_zeros(&mut self, end: u64) -> Result<(), Error> {
        while let Some(missing @ 1..) = end.checked_sub(self.done) {
            self.put(zeros(missing))?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let before_tail = match self.tail_start.checked_sub(self.done) {
            Some(before) if self.holes.is_empty() => usize::try_from(before).unwrap_or(usize::MAX),
            None if self.holes.is_empty() => 0,
            _ => usize::MAX,
        };
        let (data, tail) = bytes.split_at_checked(before_tail).unwrap_or((bytes, &[]));
        self.output.write(data)?;
        self.tail.extend(tail);
        self.done += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.check_room(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
        if self.pending > 0 {
            self.settle()?;
        }
        self.put(bytes)
    }
}

/// An error is the output's, or holds an [`Error`] of this crate: [`Error::Length`] for content
/// beyond the announced size, or [`Error::Limit`]. `Error::from` takes it out.
impl<W: Write + Seek> Write for FileWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two to the power of what number of blocks a chunk has to have, so that the file has few.
fn chunk_bits(size: u64) -> u8 {
    let blocks = size.div_ceil(BLOCK_U64);
    let few = |bits: &u8| blocks.div_ceil(1 << bits) <= MAX_CHUNKS;
    (0..u8::MAX).find(few).unwrap_or_default()
}

#[cfg(test)]
mod tests;
