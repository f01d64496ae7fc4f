//! One inode: its numbers, its attributes, and where its content is.

use std::io::{Read, Seek};

use super::{ReadError, Reader};
use crate::disk::{BLOCK_U64, INODE, NO_BLOCK};
use crate::limits::MAX_FILE;
use crate::meta::{Mtime, Special};
use crate::xattr;

/// Most chunks of one file, twice what the writer makes.
const MAX_CHUNKS: u64 = 1 << 19;

/// Longest target of a symbolic link in bytes.
const MAX_TARGET: u64 = 4095;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link. Its content is its target.
    Symlink,
    /// A device, pipe or socket.
    Special(Special),
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub nid: u64,
    /// What it is.
    pub kind: Kind,
    /// The lower 12 bits: permissions with set-user-ID, set-group-ID and sticky bit.
    pub mode: u16,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// When the content changed last.
    pub mtime: Mtime,
    /// How many names lead to it, as it says itself.
    pub links: u32,
    /// Bytes of its content.
    pub size: u64,
    /// Extended attributes by their whole names, sorted by these.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether it is a directory that no entry has described: others that lie below may have it.
    pub implied: bool,
    layout: u16,
    union: u32,
    /// Where what follows inode and attributes begins.
    rest: u64,
}

/// Some content in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First byte in the content.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// First byte in the image.
    pub at: u64,
}

/// Little-endian numbers of an inode.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        if let Some(found) = self.0.get(at..at + N) {
            bytes.copy_from_slice(found);
        }
        bytes
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }
}

/// Reads an inode and its attributes.
pub(super) fn read<R: Read + Seek>(reader: &mut Reader<R>, nid: u64) -> Result<Inode, ReadError> {
    let at = reader.place(nid).ok_or(ReadError::Damaged { at: 0, what: "an inode's number" })?;
    let damaged = |what| ReadError::Damaged { at, what };
    let mut bytes = [0; INODE];
    reader.read(at, &mut bytes)?;
    let fields = Fields(&bytes);
    let format = fields.u16(0);
    let layout = format >> 1;
    if format & 1 == 0 || !matches!(layout, 0 | 2 | 4) {
        return Err(damaged("an inode of a form that is never written"));
    }
    let union = fields.u32(16);
    let kind = kind(fields.u16(4), union).ok_or_else(|| damaged("the type of an inode"))?;
    let size = u64::from_le_bytes(fields.bytes(8));
    let limit = if kind == Kind::Symlink { MAX_TARGET } else { MAX_FILE };
    if size > limit {
        return Err(damaged("the size of an inode"));
    }
    let xattr_bytes = match fields.u16(2) {
        0 => 0,
        units => 12 + 4 * (usize::from(units) - 1),
    };
    let start = at + INODE as u64;
    let mut attributes = vec![0; xattr_bytes];
    reader.read(start, &mut attributes)?;
    let xattrs = xattr::decode(attributes.get(12..).unwrap_or_default());
    let seconds = i64::from_le_bytes(fields.bytes(32));
    Ok(Inode {
        nid,
        kind,
        mode: fields.u16(4) & 0o7777,
        uid: fields.u32(24),
        gid: fields.u32(28),
        mtime: Mtime { seconds, nanoseconds: fields.u32(40).min(999_999_999) },
        links: fields.u32(44),
        size,
        implied: kind == Kind::Directory && bytes[48] == 1,
        xattrs: xattrs.ok_or_else(|| damaged("the extended attributes of an inode"))?,
        layout,
        union,
        rest: start + xattr_bytes as u64,
    })
}

fn kind(mode: u16, number: u32) -> Option<Kind> {
    let major = number >> 8 & 0xfff;
    let minor = number & 0xff | number >> 12 & 0xf_ff00;
    Some(match mode >> 12 {
        0o10 => Kind::File,
        0o04 => Kind::Directory,
        0o12 => Kind::Symlink,
        0o01 => Kind::Special(Special::Fifo),
        0o02 => Kind::Special(Special::Character { major, minor }),
        0o06 => Kind::Special(Special::Block { major, minor }),
        0o14 => Kind::Special(Special::Socket),
        _ => return None,
    })
}

/// Where the content of an inode is.
pub(super) fn pieces<R: Read + Seek>(
    reader: &mut Reader<R>,
    inode: &Inode,
) -> Result<Vec<Piece>, ReadError> {
    let pieces = match inode.layout {
        _ if inode.size == 0 || matches!(inode.kind, Kind::Special(_)) => Vec::new(),
        4 => return chunks(reader, inode),
        2 => {
            let tail = inode.size % BLOCK_U64;
            let start = inode.size - tail;
            let tail = Piece { start, len: tail, at: inode.rest };
            let before = Piece { start: 0, len: start, at: address(inode.union) };
            [before, tail].into_iter().filter(|piece| piece.len > 0).collect()
        }
        _ => vec![Piece { start: 0, len: inode.size, at: address(inode.union) }],
    };
    for piece in &pieces {
        reader.check(piece.at, piece.len, "content that is not there")?;
    }
    Ok(pieces)
}

fn address(block: u32) -> u64 {
    u64::from(block) * BLOCK_U64
}

/// The pieces of a file with holes: chunks that follow each other are one.
fn chunks<R: Read + Seek>(reader: &mut Reader<R>, inode: &Inode) -> Result<Vec<Piece>, ReadError> {
    let damaged = |what| ReadError::Damaged { at: inode.rest, what };
    // A chunk of the largest file at most; the flags of other forms are above these bits.
    if inode.union > 32 {
        return Err(damaged("the form of a file with holes"));
    }
    let chunk = BLOCK_U64 << inode.union;
    let count = inode.size.div_ceil(chunk);
    if count > MAX_CHUNKS {
        return Err(damaged("a file of too many chunks"));
    }
    let mut map = vec![0; usize::try_from(4 * count).unwrap_or_default()];
    reader.read(inode.rest, &mut map)?;
    let mut pieces: Vec<Piece> = Vec::new();
    for (number, block) in (0..count).zip(map.chunks_exact(4)) {
        let block = Fields(block).u32(0);
        if block == NO_BLOCK {
            continue;
        }
        let (start, at) = (number * chunk, address(block));
        let len = chunk.min(inode.size - start);
        reader.check(at, len, "content that is not there")?;
        match pieces.last_mut() {
            Some(last) if last.start + last.len == start && last.at + last.len == at => {
                last.len += len;
            }
            _ => pieces.push(Piece { start, len, at }),
        }
    }
    Ok(pieces)
}
