//! Structures of the format, as the kernel's `fs/erofs/erofs_fs.h` has them. All numbers are
//! little-endian.

use crate::meta::{Mtime, Special};

/// Size of a block in bytes.
pub(crate) const BLOCK: usize = 4096;
pub(crate) const BLOCK_U64: u64 = BLOCK as u64;
const BLOCK_BITS: u8 = 12;

/// Size of an extended inode (`struct erofs_inode_extended`) in bytes. The compact form, which has
/// no time and 16 bits for ids, is never written.
pub(crate) const INODE: usize = 64;

/// An inode's number (nid) counts slots of so many bytes from the start of the metadata on.
pub(crate) const SLOT: u64 = 32;

/// In place of a block's address: there is none (`EROFS_NULL_ADDR`).
pub(crate) const NO_BLOCK: u32 = u32::MAX;

/// Bytes before the superblock.
const BEFORE_SUPERBLOCK: usize = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;

/// `EROFS_FEATURE_COMPAT_SB_CHKSUM` and `EROFS_FEATURE_COMPAT_MTIME`: the superblock has a
/// checksum, and an inode's time is when its content changed.
const COMPATIBLE: u32 = 0x1 | 0x2;

/// `EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`.
const CHUNKED_FILE: u32 = 0x4;

/// Where inodes are implied, the volume's name says so, so that nobody has to look at all others.
const IMPLIED: [u8; 16] = *b"implied-parents\0";

/// How the content of an inode is found (`i_format`, above the bit for the extended form).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataLayout {
    /// In consecutive blocks.
    Plain = 0,
    /// The same, but the last partial block follows the inode.
    Inline = 2,
    /// In chunks, whose addresses follow the inode.
    Chunks = 4,
}

/// What an inode is, as mode and as type in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    Directory,
    Symlink,
    Special(Special),
}

impl Type {
    /// `S_IFMT` bits of the mode.
    fn mode(self) -> u16 {
        match self {
            Self::Special(Special::Fifo) => 0o010_000,
            Self::Special(Special::Character { .. }) => 0o020_000,
            Self::Directory => 0o040_000,
            Self::Special(Special::Block { .. }) => 0o060_000,
            Self::File => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Special(Special::Socket) => 0o140_000,
        }
    }

    /// `file_type` in a directory, the kernel's `FT_*`.
    pub(crate) fn in_directory(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::Special(Special::Character { .. }) => 3,
            Self::Special(Special::Block { .. }) => 4,
            Self::Special(Special::Fifo) => 5,
            Self::Special(Special::Socket) => 6,
            Self::Symlink => 7,
        }
    }
}

/// A device number, in the kernel's `new_encode_dev` form.
pub(crate) fn device(special: Special) -> u32 {
    match special {
        Special::Fifo | Special::Socket => 0,
        Special::Character { major, minor } | Special::Block { major, minor } => {
            (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
        }
    }
}

/// An inode (`struct erofs_inode_extended`).
#[derive(Debug)]
pub(crate) struct RawInode {
    pub(crate) layout: DataLayout,
    /// `i_xattr_icount`.
    pub(crate) xattrs: u16,
    pub(crate) kind: Type,
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// `i_u`: first block, device number or format of chunks.
    pub(crate) union: u32,
    /// `i_ino`, for programs that know no nids.
    pub(crate) number: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Mtime,
    pub(crate) links: u32,
    /// Whether it is a directory that no entry has described; in the first byte of `i_reserved2`,
    /// which the kernel does not read.
    pub(crate) implied: bool,
}

impl RawInode {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let format = 1 | (self.layout as u16) << 1;
        let mut bytes = Vec::with_capacity(INODE);
        bytes.extend(format.to_le_bytes());
        bytes.extend(self.xattrs.to_le_bytes());
        bytes.extend((self.mode | self.kind.mode()).to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(self.size.to_le_bytes());
        bytes.extend(self.union.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.uid.to_le_bytes());
        bytes.extend(self.gid.to_le_bytes());
        bytes.extend(self.mtime.seconds.to_le_bytes());
        bytes.extend(self.mtime.nanoseconds.to_le_bytes());
        bytes.extend(self.links.to_le_bytes());
        bytes.push(self.implied.into());
        bytes.resize(INODE, 0);
        bytes
    }
}

/// What the superblock says (`struct erofs_super_block`).
#[derive(Debug)]
pub(crate) struct Superblock {
    /// nid of the root directory.
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    /// First block of the metadata.
    pub(crate) metadata: u32,
    pub(crate) uuid: [u8; 16],
    /// Whether a file has chunks.
    pub(crate) has_chunks: bool,
    /// Whether an inode besides the root's is implied.
    pub(crate) has_implied: bool,
}

impl Superblock {
    /// The first block of the image.
    pub(crate) fn to_block(&self) -> Vec<u8> {
        let checksum = crc32c(&self.padded(0));
        let mut block = vec![0; BEFORE_SUPERBLOCK];
        block.extend(self.padded(checksum));
        block
    }

    fn padded(&self, checksum: u32) -> Vec<u8> {
        let incompatible = if self.has_chunks { CHUNKED_FILE } else { 0 };
        let mut bytes = Vec::with_capacity(BLOCK);
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(COMPATIBLE.to_le_bytes());
        bytes.extend([BLOCK_BITS, 0]);
        bytes.extend(self.root.to_le_bytes());
        bytes.extend(self.inodes.to_le_bytes());
        // The time of the volume (8 + 4 bytes) is the time of compact inodes: there are none.
        bytes.extend([0; 12]);
        bytes.extend(self.blocks.to_le_bytes());
        bytes.extend(self.metadata.to_le_bytes());
        // No shared attributes.
        bytes.extend([0; 4]);
        bytes.extend(self.uuid);
        bytes.extend(if self.has_implied { IMPLIED } else { [0; 16] });
        bytes.extend(incompatible.to_le_bytes());
        // No compression, no other device, no long prefixes of attributes.
        bytes.resize(BLOCK - BEFORE_SUPERBLOCK, 0);
        bytes
    }
}

/// What a superblock of ours says.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    pub(crate) metadata: u32,
    pub(crate) has_implied: bool,
}

impl Found {
    /// Reads what follows the first 1024 bytes of block 0, to its end.
    ///
    /// # Errors
    /// What it is not.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let number = |at: usize| {
            let number = bytes.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_le_bytes(number.copied().unwrap_or_default())
        };
        if number(0) != MAGIC {
            return Err("is not EROFS, or was not finished");
        }
        let mut unsigned = bytes.to_vec();
        unsigned.get_mut(4..8).unwrap_or_default().fill(0);
        if crc32c(&unsigned) != number(4) {
            return Err("has a superblock with a wrong checksum");
        }
        let block_bits = bytes.get(12).copied().unwrap_or_default();
        if number(80) & !CHUNKED_FILE != 0 || block_bits != BLOCK_BITS {
            return Err("was written by another program");
        }
        let high = u16::try_from(number(12) >> 16).unwrap_or_default();
        let inodes = u64::from(number(16)) | u64::from(number(20)) << 32;
        let has_implied = bytes.get(64..80) == Some(&IMPLIED[..]);
        Ok(Self { root: high, inodes, blocks: number(36), metadata: number(40), has_implied })
    }
}

/// CRC-32C as the kernel's `crc32c(~0, …)` has it: without the inversion at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x82F6_3B78 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value of CRC-32C, in catalogues of CRCs.
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn structures_have_the_sizes_of_the_format() {
        let inode = RawInode {
            layout: DataLayout::Chunks,
            xattrs: 0,
            kind: Type::File,
            mode: 0o644,
            size: 1,
            union: 2,
            number: 3,
            uid: 4,
            gid: 5,
            mtime: Mtime { seconds: -1, nanoseconds: 7 },
            links: 8,
            implied: true,
        };
        let bytes = inode.to_bytes();
        assert_eq!(bytes.len(), INODE);
        assert_eq!(bytes[0], 9);
        assert_eq!(bytes[4..6], 0o100_644_u16.to_le_bytes());
        assert_eq!(bytes[32..40], [0xff; 8]);
        assert_eq!(bytes[44..50], [8, 0, 0, 0, 1, 0]);
        let superblock = Superblock {
            root: 2,
            inodes: 1,
            blocks: 9,
            metadata: 8,
            uuid: [0xaa; 16],
            has_chunks: true,
            has_implied: false,
        };
        let block = superblock.to_block();
        assert_eq!(block.len(), BLOCK);
        let field = |at: usize| block[1024 + at];
        assert_eq!([field(12), field(14), field(36), field(40)], [12, 2, 9, 8]);
        assert_eq!([field(48), field(63), field(64), field(80)], [0xaa, 0xaa, 0, 4]);
    }

    #[test]
    fn device_numbers_are_encoded_as_the_kernel_does() {
        assert_eq!(device(Special::Character { major: 1, minor: 3 }), 0x103);
        assert_eq!(device(Special::Block { major: 0xabc, minor: 0xdef12 }), 0xdefa_bc12);
        assert_eq!(device(Special::Fifo), 0);
    }
}
