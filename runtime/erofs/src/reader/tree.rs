//! All names of an image.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use super::{Inode, Kind, ReadError, Reader};
use crate::disk::BLOCK;
use crate::limits::Limits;

/// Size of an entry in a directory's block, in bytes.
const DIRENT: usize = 12;

/// Longest path in bytes.
const MAX_PATH: usize = 4095;

/// A name in a directory.
#[derive(Debug)]
pub struct Name {
    /// The place of its directory among [`Names::all`]; none: the root.
    parent: Option<usize>,
    name: Box<[u8]>,
    /// Bytes of its whole path.
    length: usize,
    /// The number of what it leads to.
    pub nid: u64,
    /// Whether that is a directory.
    pub is_directory: bool,
    /// First byte of its content in the image; 0: it has none.
    pub content: u64,
}

/// The names of an image, without its root: each directory before what is in it, and what is in one
/// directory sorted by its bytes.
#[derive(Debug)]
pub struct Names {
    /// All of them.
    pub all: Vec<Name>,
}

impl Names {
    /// The path of a name from the root on, without a slash at its start.
    pub fn path(&self, name: &Name) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = vec![&name.name];
        let mut parent = name.parent.and_then(|parent| self.all.get(parent));
        while let Some(above) = parent {
            parts.push(&above.name);
            parent = above.parent.and_then(|parent| self.all.get(parent));
        }
        parts.reverse();
        parts.join(&b'/')
    }
}

/// Reads all names.
pub(super) fn read<R: Read + Seek>(
    reader: &mut Reader<R>,
    limits: &Limits,
) -> Result<Names, ReadError> {
    let mut walk = Walk { names: Vec::new(), bytes: 0, limits: *limits, seen: BTreeSet::new() };
    let root = reader.root()?;
    if root.kind != Kind::Directory {
        return Err(ReadError::Damaged { at: reader.metadata, what: "its root is no directory" });
    }
    walk.directory(reader, None, &root)?;
    let mut next = 0;
    while let Some(name) = walk.names.get(next) {
        let (nid, is_directory) = (name.nid, name.is_directory);
        let inode = reader.inode(nid)?;
        if is_directory != (inode.kind == Kind::Directory) {
            return Err(ReadError::Damaged { at: reader.metadata, what: "a type in a directory" });
        }
        if is_directory {
            walk.directory(reader, Some(next), &inode)?;
        } else {
            let first = reader.pieces(&inode)?.first().map_or(0, |piece| piece.at);
            if let Some(name) = walk.names.get_mut(next) {
                name.content = first;
            }
        }
        next += 1;
    }
    Ok(Names { all: walk.names })
}

/// Adds bytes to a block, and hands each one that is whole on.
fn filled(
    block: &mut Vec<u8>,
    mut bytes: &[u8],
    mut whole: impl FnMut(&[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    while !bytes.is_empty() {
        let (some, rest) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
        block.extend_from_slice(some);
        bytes = rest;
        if block.len() == BLOCK {
            whole(block)?;
            block.clear();
        }
    }
    Ok(())
}

struct Walk {
    names: Vec<Name>,
    /// Of all names.
    bytes: u64,
    limits: Limits,
    /// Directories that were read.
    seen: BTreeSet<u64>,
}

impl Walk {
    /// Takes the names of a directory.
    fn directory<R: Read + Seek>(
        &mut self,
        reader: &mut Reader<R>,
        own: Option<usize>,
        inode: &Inode,
    ) -> Result<(), ReadError> {
        let at = reader.place(inode.nid).unwrap_or_default();
        if !self.seen.insert(inode.nid) || self.seen.len() as u64 > reader.inodes {
            return Err(ReadError::Damaged { at, what: "a directory with two names" });
        }
        // What it may have at most, and one block that is hardly filled for each.
        let most = 2 * (self.limits.names + self.limits.entries * DIRENT as u64) + BLOCK as u64;
        if inode.size > most {
            let (what, limit) = ("bytes of names", self.limits.names);
            return Err(ReadError::Limit { what, limit });
        }
        let mut block = Vec::with_capacity(BLOCK);
        for piece in reader.pieces(inode)? {
            reader.content(piece, |bytes: &[u8]| {
                filled(&mut block, bytes, |whole| self.block(own, whole, at))
            })?;
        }
        self.block(own, &block, at)
    }

    /// Takes the names of a directory's block.
    fn block(&mut self, own: Option<usize>, block: &[u8], at: u64) -> Result<(), ReadError> {
        let damaged = || ReadError::Damaged { at, what: "a directory" };
        let offset = |entry: &[u8]| Some(usize::from(u16::from_le_bytes([entry[8], entry[9]])));
        let Some(first) = block.get(..DIRENT).and_then(offset) else {
            return if block.is_empty() { Ok(()) } else { Err(damaged()) };
        };
        let head = block.get(..first).filter(|head| head.len() % DIRENT == 0);
        let mut entries = head.ok_or_else(damaged)?.chunks_exact(DIRENT).peekable();
        while let Some(entry) = entries.next() {
            let start = offset(entry).ok_or_else(damaged)?;
            let end = entries.peek().and_then(|next| offset(next)).unwrap_or(block.len());
            let name = block.get(start..end).ok_or_else(damaged)?;
            // The last name of a block ends at the first zero byte.
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if name.is_empty() || name.len() > 255 || name.contains(&b'/') {
                return Err(damaged());
            }
            let nid = entry.first_chunk().map_or(0, |nid| u64::from_le_bytes(*nid));
            self.name(own, name, (nid, entry[10] == 2), at)?;
        }
        Ok(())
    }

    fn name(
        &mut self,
        parent: Option<usize>,
        name: &[u8],
        (nid, is_directory): (u64, bool),
        at: u64,
    ) -> Result<(), ReadError> {
        self.bytes += name.len() as u64;
        let above = parent.and_then(|parent| self.names.get(parent));
        let length = above.map_or(0, |above| above.length + 1) + name.len();
        if length > MAX_PATH {
            return Err(ReadError::Damaged { at, what: "a path of more than 4095 bytes" });
        }
        let Limits { entries, names, .. } = self.limits;
        if self.names.len() as u64 >= entries {
            return Err(ReadError::Limit { what: "names", limit: entries });
        }
        if self.bytes > names {
            return Err(ReadError::Limit { what: "bytes of names", limit: names });
        }
        self.names.push(Name { parent, name: name.into(), length, nid, is_directory, content: 0 });
        Ok(())
    }
}
