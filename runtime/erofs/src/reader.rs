//! A reader of the images that this crate writes, for whoever makes archives of them again.
//!
//! [`Reader::open`] looks at the superblock. [`Reader::tree`] finds all names and keeps them in
//! memory, about 100 bytes each. [`Reader::inode`] and [`Reader::content`] read one inode.
//!
//! Images are on disks, which lie. So nothing is taken on trust: every place must be inside the image.
//! Names and inodes are bounded by [`Limits`]. A directory that comes twice is an error.

mod inode;
mod tree;

use std::io::{self, Read, Seek, SeekFrom};

use crate::disk::{self, BLOCK, BLOCK_U64, SLOT};
use crate::limits::Limits;

pub use inode::{Inode, Kind, Piece};
pub use tree::{Name, Names};

/// Bytes before the superblock, and of it with what fills up its block.
const BEFORE: u64 = 1024;

/// Bytes of content that are read at once.
const BUFFER: usize = 128 << 10;

/// Why an image can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system said no.
    #[error("reading {len} bytes at byte {at} of the image")]
    Io {
        /// Where.
        at: u64,
        /// How many.
        len: usize,
        /// Why not.
        source: io::Error,
    },
    /// Not an image of this crate's.
    #[error("the image {0}")]
    Foreign(&'static str),
    /// It contradicts itself.
    #[error("the image is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// More than is read.
    #[error("the image has more than {limit} {what}")]
    Limit {
        /// Of what, as a plural.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// An image that is read. Its source is read in any order.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// Bytes of the image.
    size: u64,
    /// First byte of the metadata.
    metadata: u64,
    root: u64,
    inodes: u64,
    has_implied: bool,
}

impl<R: Read + Seek> Reader<R> {
    /// Looks at the superblock.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(mut source: R) -> Result<Self, ReadError> {
        let end = source.seek(SeekFrom::End(0));
        let size = end.map_err(|source| ReadError::Io { at: 0, len: 0, source })?;
        let mut reader = Self { source, size, metadata: 0, root: 0, inodes: 0, has_implied: false };
        let mut block = vec![0; BLOCK - usize::try_from(BEFORE).unwrap_or_default()];
        reader.read(BEFORE, &mut block)?;
        let superblock = disk::Found::parse(&block).map_err(ReadError::Foreign)?;
        if u64::from(superblock.blocks).saturating_mul(BLOCK_U64) != size {
            return Err(ReadError::Damaged { at: BEFORE, what: "its length is not as it says" });
        }
        reader.metadata = u64::from(superblock.metadata) * BLOCK_U64;
        reader.root = u64::from(superblock.root);
        reader.inodes = superblock.inodes;
        reader.has_implied = superblock.has_implied;
        Ok(reader)
    }

    /// Whether an inode is [implied](Inode::implied). Images of earlier releases do not say so.
    pub fn has_implied(&self) -> bool {
        self.has_implied
    }

    /// All names of the image.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tree(&mut self, limits: &Limits) -> Result<Names, ReadError> {
        tree::read(self, limits)
    }

    /// The inode of this number.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn inode(&mut self, nid: u64) -> Result<Inode, ReadError> {
        inode::read(self, nid)
    }

    /// The root directory's inode.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn root(&mut self) -> Result<Inode, ReadError> {
        self.inode(self.root)
    }

    /// Where the content of a file, directory or link is: in order, without holes.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn pieces(&mut self, inode: &Inode) -> Result<Vec<Piece>, ReadError> {
        inode::pieces(self, inode)
    }

    /// Gives a piece of content to `sink`, in parts.
    ///
    /// # Errors
    /// [`ReadError`], also those of `sink`.
    pub fn content<E: From<ReadError>>(
        &mut self,
        piece: Piece,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut at, mut left) = (piece.at, piece.len);
        let most = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
        let mut buffer = vec![0; most];
        while left > 0 {
            let count = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let part = &mut buffer[..count];
            self.read(at, part)?;
            sink(part)?;
            at += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    /// Where an inode begins.
    fn place(&self, nid: u64) -> Option<u64> {
        self.metadata.checked_add(nid.checked_mul(SLOT)?)
    }

    /// Whether these bytes are inside the image.
    fn check(&self, at: u64, len: u64, what: &'static str) -> Result<(), ReadError> {
        match at.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(ReadError::Damaged { at, what }),
        }
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let len = into.len();
        self.check(at, len as u64, "it ends before")?;
        let read = self.source.seek(SeekFrom::Start(at)).and_then(|_| self.source.read_exact(into));
        read.map_err(|source| ReadError::Io { at, len, source })
    }
}

#[cfg(test)]
mod tests;
