//! Directories as they are in the image.
//!
//! A block has an array of `struct erofs_dirent`, and behind it their names in the same order. A
//! name ends where the next begins, the last of a block at the first zero byte or at the end. All
//! names of a directory are sorted by their bytes, `.` and `..` among them.

use std::iter::{Peekable, once};
use std::ops::Bound::{Excluded, Unbounded};

use crate::disk::{BLOCK, BLOCK_U64, Type};
use crate::tree::{Directory, Id, Tree};

/// Size of `struct erofs_dirent` in bytes.
const DIRENT: usize = 12;

const SELF: &[u8] = b".";
const PARENT: &[u8] = b"..";

/// A name and what it leads to.
pub(crate) type Name<'a> = (&'a [u8], Id);

/// All names of a directory, in their order.
pub(crate) fn names(directory: &Directory, own: Id) -> impl Iterator<Item = Name<'_>> {
    let bare = |(name, id): (&'static [u8], Id)| once((name, id));
    let range = |from, to| {
        let found = directory.entries.range::<[u8], _>((from, to));
        found.map(|(name, id)| (name.as_ref(), *id))
    };
    range(Unbounded, Excluded(SELF))
        .chain(bare((SELF, own)))
        .chain(range(Excluded(SELF), Excluded(PARENT)))
        .chain(bare((PARENT, directory.parent)))
        .chain(range(Excluded(PARENT), Unbounded))
}

/// The names of each block.
pub(crate) struct Blocks<I: Iterator>(Peekable<I>);

impl<'a, I: Iterator<Item = Name<'a>>> Blocks<I> {
    pub(crate) fn new(names: I) -> Self {
        Self(names.peekable())
    }
}

impl<'a, I: Iterator<Item = Name<'a>>> Iterator for Blocks<I> {
    type Item = Vec<Name<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut used = 0;
        let mut block = Vec::new();
        while let Some((name, _)) = self.0.peek() {
            used += DIRENT + name.len();
            if used > BLOCK {
                break;
            }
            block.extend(self.0.next());
        }
        (!block.is_empty()).then_some(block)
    }
}

/// Bytes of a block with these names, without what fills it up.
fn used(block: &[Name<'_>]) -> usize {
    block.iter().map(|(name, _)| DIRENT + name.len()).sum()
}

/// A block, not filled up; `describe` says the nid and the type of what a name leads to.
pub(crate) fn encode(block: &[Name<'_>], describe: impl Fn(Id) -> (u64, Type)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    let mut offset = DIRENT * block.len();
    for (name, id) in block {
        let (nid, kind) = describe(*id);
        bytes.extend(nid.to_le_bytes());
        // Blocks are far smaller than 64 KiB.
        bytes.extend(u16::try_from(offset).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend([kind.in_directory(), 0]);
        offset += name.len();
    }
    bytes.extend(block.iter().flat_map(|(name, _)| *name));
    bytes
}

/// What a directory's entries say of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Size in bytes: all blocks but the last are full.
    pub(crate) size: u64,
    /// Its own name in its parent, its `.`, and the `..` of each directory in it.
    pub(crate) links: u32,
    /// Whether a name is a whiteout.
    pub(crate) whiteouts: bool,
}

impl Listing {
    pub(crate) fn new(tree: &Tree, directory: &Directory, own: Id) -> Self {
        let mut listing = Self { links: 2, ..Self::default() };
        for block in Blocks::new(names(directory, own)) {
            let used = u64::try_from(used(&block)).unwrap_or(BLOCK_U64);
            listing.size = listing.size.next_multiple_of(BLOCK_U64).saturating_add(used);
        }
        for id in directory.entries.values() {
            let more = u32::from(tree.directory(*id).is_some());
            listing.links = listing.links.saturating_add(more);
            listing.whiteouts |= tree.is_whiteout(*id);
        }
        listing
    }
}

#[cfg(test)]
mod tests;
