//! Where everything goes once all entries are known.
//!
//! Inodes lie in the order of a breadth-first walk, so that those of one directory are together.
//! The root comes first: its nid has 16 bits in the superblock.

use std::borrow::Cow;

use crate::directory::{Listing, names};
use crate::disk::{BLOCK_U64, INODE, SLOT};
use crate::tree::{Body, Content, Id, Inode, Rest, Tree};
use crate::xattr::{body_size, with_overlay};

/// Longest tail that follows an inode, in bytes. Half a block: a tail must not cross the border of
/// a block, and this bounds what is left free for that.
const MAX_TAIL: u64 = 2048;

/// Inodes begin at multiples of so many bytes, so that none crosses the border of a block.
const ALIGN: u64 = INODE as u64;

/// Bytes of the last, partial block of some content, if it may follow the inode; else 0.
pub(crate) fn tail_size(content: u64) -> u64 {
    let tail = content % BLOCK_U64;
    if tail <= MAX_TAIL { tail } else { 0 }
}

/// What follows an inode, and what else it needs.
#[derive(Debug)]
pub(crate) struct Shape<'a> {
    /// Encoded attributes.
    pub(crate) xattrs: Cow<'a, [u8]>,
    /// Bytes of a tail, which must be in one block.
    tail: u64,
    /// Bytes of the addresses of chunks.
    map: u64,
    /// Of directories.
    pub(crate) listing: Option<Listing>,
}

impl<'a> Shape<'a> {
    pub(crate) fn new(tree: &Tree, id: Id, inode: &'a Inode) -> Self {
        let own = &inode.attributes.xattrs;
        match &inode.body {
            Body::Directory(directory) => {
                let listing = Listing::new(tree, directory, id);
                Shape {
                    xattrs: with_overlay(own, directory.opaque, listing.whiteouts),
                    tail: tail_size(listing.size),
                    map: 0,
                    listing: Some(listing),
                }
            }
            Body::File(content) | Body::Symlink(content) => {
                let (tail, map) = after_inode(content);
                Shape { xattrs: Cow::Borrowed(own), tail, map, listing: None }
            }
            Body::Special(_) => {
                Shape { xattrs: Cow::Borrowed(own), tail: 0, map: 0, listing: None }
            }
        }
    }

    /// Blocks of a directory that do not follow its inode.
    pub(crate) fn blocks(&self) -> u64 {
        let size = self.listing.as_ref().map_or(0, |listing| listing.size);
        size.saturating_sub(self.tail).div_ceil(BLOCK_U64)
    }

    /// Bytes of inode and attributes.
    fn head(&self) -> u64 {
        let xattrs = u64::try_from(body_size(&self.xattrs)).unwrap_or(u64::MAX);
        ALIGN.saturating_add(xattrs)
    }

    /// Where the inode begins if there is room from `from` on, and where all that follows it ends.
    /// All three are bytes from the start of the metadata.
    fn place(&self, from: u64) -> (u64, u64) {
        let start = from.next_multiple_of(ALIGN);
        let tail = start.saturating_add(self.head());
        let left = BLOCK_U64 - tail % BLOCK_U64;
        // The tail then begins in the first bytes of the next block.
        let moved = if self.tail > left { left.next_multiple_of(ALIGN) } else { 0 };
        let end = tail.saturating_add(moved).saturating_add(self.tail).saturating_add(self.map);
        (start.saturating_add(moved), end)
    }
}

/// Bytes of the tail and of the addresses of chunks.
fn after_inode(content: &Content) -> (u64, u64) {
    match &content.rest {
        Rest::None => (0, 0),
        Rest::Tail(tail) => (u64::try_from(tail.len()).unwrap_or(u64::MAX), 0),
        Rest::Holes(holes) => {
            let chunks = content.size.div_ceil(BLOCK_U64 << holes.chunk_bits);
            (0, chunks.saturating_mul(4))
        }
    }
}

/// The place of an inode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its nid; 0: none, as no program that lists a directory shows what has the number 0.
    pub(crate) nid: u64,
    /// First block of a directory, counted from the first of all directories on.
    pub(crate) block: u64,
}

impl Place {
    /// Bytes from the start of the metadata on.
    pub(crate) fn offset(self) -> u64 {
        self.nid.saturating_mul(SLOT)
    }
}

/// All places.
#[derive(Debug)]
pub(crate) struct Plan {
    /// All inodes, as they lie in the image.
    pub(crate) order: Vec<Id>,
    places: Vec<Place>,
    /// Blocks of directories before the metadata.
    pub(crate) blocks: u64,
    /// Bytes of metadata.
    pub(crate) bytes: u64,
}

impl Plan {
    pub(crate) fn new(tree: &Tree) -> Self {
        let places = vec![Place::default(); tree.slots()];
        // What is before the first inode keeps the nid 0 free.
        let mut plan = Self { order: Vec::new(), places, blocks: 0, bytes: ALIGN };
        plan.add(tree, Id::ROOT);
        let mut next = 0;
        while let Some(id) = plan.order.get(next).copied() {
            next += 1;
            let Some(directory) = tree.directory(id) else { continue };
            for (_, child) in names(directory, id) {
                plan.add(tree, child);
            }
        }
        plan
    }

    /// Gives an inode its place, unless it has one by another name.
    fn add(&mut self, tree: &Tree, id: Id) {
        let (Some(place), Some(inode)) = (self.places.get_mut(id.index()), tree.get(id)) else {
            return;
        };
        if *place != Place::default() {
            return;
        }
        let shape = Shape::new(tree, id, inode);
        let (start, end) = shape.place(self.bytes);
        *place = Place { nid: start / SLOT, block: self.blocks };
        self.blocks = self.blocks.saturating_add(shape.blocks());
        self.bytes = end;
        self.order.push(id);
    }

    /// Where an inode is.
    pub(crate) fn place(&self, id: Id) -> Place {
        self.places.get(id.index()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
