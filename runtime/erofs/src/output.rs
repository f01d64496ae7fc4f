//! Where the bytes go, counted in blocks.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use crate::disk::{BLOCK, BLOCK_U64};
use crate::error::Error;

/// Bytes that are gathered before they are written.
const BUFFER: usize = 256 << 10;

/// Bytes that an image can have at most: the last block address stands for a hole.
const MAX_IMAGE: u64 = (u32::MAX as u64 - 1) * BLOCK_U64;

const ZEROS: &[u8] = &[0; BLOCK];

/// An output that knows how far it is.
#[derive(Debug)]
pub(crate) struct Output<W: Write + Seek> {
    out: BufWriter<W>,
    position: u64,
    limit: u64,
    /// Nobody knows what was written of what failed.
    failed: bool,
}

impl<W: Write + Seek> Output<W> {
    /// Begins at the start of `out`, with an empty block for the superblock.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Limit`].
    pub(crate) fn new(mut out: W, limit: u64) -> Result<Self, Error> {
        out.seek(SeekFrom::Start(0))?;
        let out = BufWriter::with_capacity(BUFFER, out);
        let mut output = Self { out, position: 0, limit: limit.min(MAX_IMAGE), failed: false };
        output.write(ZEROS)?;
        Ok(output)
    }

    /// Bytes up to here.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Limit`], and nothing is written. [`Error::Io`], and all later writes fail as well.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let end = self.check_room(len)?;
        self.check_whole()?;
        self.failed = true;
        self.out.write_all(bytes)?;
        self.failed = false;
        self.position = end;
        Ok(())
    }

    /// The position after so many bytes more.
    ///
    /// # Errors
    /// [`Error::Limit`] if the image may not have them.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<u64, Error> {
        let end = self.position.checked_add(bytes).filter(|end| *end <= self.limit);
        end.ok_or(Error::Limit { what: "bytes", limit: self.limit })
    }

    /// Appends zeros up to the next block, and says which block that is.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn align(&mut self) -> Result<u32, Error> {
        self.skip_to(self.position.next_multiple_of(BLOCK_U64))?;
        // The limit is below 2^32 blocks.
        Ok(u32::try_from(self.position / BLOCK_U64).unwrap_or(u32::MAX))
    }

    /// Appends zeros up to a position.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn skip_to(&mut self, position: u64) -> Result<(), Error> {
        while let Some(missing @ 1..) = position.checked_sub(self.position) {
            self.write(zeros(missing))?;
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), Error> {
        let broken = || Err(io::Error::other("an earlier write has failed").into());
        if self.failed { broken() } else { Ok(()) }
    }

    /// Writes the first block, and ends.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn finish(mut self, first: &[u8]) -> Result<(), Error> {
        self.check_whole()?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(first)?;
        self.out.flush()?;
        Ok(())
    }
}

/// As many zeros as are wanted, at most a block.
pub(crate) fn zeros(wanted: u64) -> &'static [u8] {
    let len = usize::try_from(wanted).unwrap_or(usize::MAX);
    ZEROS.get(..len).unwrap_or(ZEROS)
}
