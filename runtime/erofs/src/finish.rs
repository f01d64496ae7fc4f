//! What follows the files' data: directories, metadata, and the superblock at the start.

use std::io::{Seek, Write};

use crate::directory::{Blocks, Name, encode, names};
use crate::disk::{BLOCK_U64, DataLayout, NO_BLOCK, RawInode, Superblock, Type, device};
use crate::error::Error;
use crate::output::{Output, zeros};
use crate::plan::{Place, Plan, Shape, tail_size};
use crate::tree::{Body, Content, Holes, Id, Inode, Rest, Tree};
use crate::xattr;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Size of the image in bytes, a multiple of 4096.
    pub bytes: u64,
    /// Inodes, the root's included. Hard links add none.
    pub inodes: u64,
    /// Blocks of 4096 bytes.
    pub blocks: u32,
}

/// Writes what is left of an image.
///
/// # Errors
/// [`Error::Io`] or [`Error::Limit`].
pub(crate) fn finish<W: Write + Seek>(
    mut output: Output<W>,
    tree: &Tree,
    uuid: [u8; 16],
) -> Result<Summary, Error> {
    let plan = Plan::new(tree);
    let directories = output.align()?;
    let rest = plan.blocks.saturating_mul(BLOCK_U64).saturating_add(plan.bytes);
    output.check_room(rest.saturating_add(BLOCK_U64))?;
    let (has_chunks, has_implied) = (false, false);
    let mut ending = Ending { output, tree, plan: &plan, directories, has_chunks, has_implied };
    ending.directories()?;
    let metadata = ending.output.align()?;
    ending.metadata()?;
    let Ending { mut output, has_chunks, has_implied, .. } = ending;
    // fsck.erofs 1.5 reads a header of attributes behind each inode, also behind the last.
    output.write(zeros(12))?;
    let blocks = output.align()?;
    let inodes = u64::try_from(plan.order.len()).unwrap_or(u64::MAX);
    let root = u16::try_from(plan.place(Id::ROOT).nid).unwrap_or_default();
    let superblock = Superblock { root, inodes, blocks, metadata, uuid, has_chunks, has_implied };
    output.finish(&superblock.to_block())?;
    Ok(Summary { bytes: u64::from(blocks) * BLOCK_U64, inodes, blocks })
}

/// What is written after the files' data.
struct Ending<'a, W: Write + Seek> {
    output: Output<W>,
    tree: &'a Tree,
    plan: &'a Plan,
    /// The first block of directories.
    directories: u32,
    has_chunks: bool,
    has_implied: bool,
}

impl<W: Write + Seek> Ending<'_, W> {
    /// Writes all blocks of directories that do not follow an inode.
    fn directories(&mut self) -> Result<(), Error> {
        for id in &self.plan.order {
            let (Some(inode), Some(directory)) = (self.tree.get(*id), self.tree.directory(*id))
            else {
                continue;
            };
            let blocks = Shape::new(self.tree, *id, inode).blocks();
            let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
            for block in Blocks::new(names(directory, *id)).take(blocks) {
                self.output.write(&self.encode(&block))?;
                self.output.align()?;
            }
        }
        Ok(())
    }

    fn encode(&self, block: &[Name<'_>]) -> Vec<u8> {
        // All that is named has a place and a type.
        let kind = |id| self.tree.get(id).map_or(Type::File, Inode::kind);
        encode(block, |id| (self.plan.place(id).nid, kind(id)))
    }

    /// Writes all inodes, each with what follows it.
    fn metadata(&mut self) -> Result<(), Error> {
        let start = self.output.position();
        for (id, number) in self.plan.order.iter().zip(1..) {
            let Some(inode) = self.tree.get(*id) else { continue };
            let place = self.plan.place(*id);
            self.output.skip_to(start.saturating_add(place.offset()))?;
            let shape = Shape::new(self.tree, *id, inode);
            let mut raw = self.raw(inode, &shape, place, number);
            raw.implied &= *id != Id::ROOT;
            self.has_implied |= raw.implied;
            self.has_chunks |= raw.layout == DataLayout::Chunks;
            self.output.write(&raw.to_bytes())?;
            self.output.write(xattr::header(&shape.xattrs))?;
            self.output.write(&shape.xattrs)?;
            self.after_inode(*id, inode)?;
        }
        Ok(())
    }

    fn raw(&self, inode: &Inode, shape: &Shape<'_>, place: Place, number: u32) -> RawInode {
        let (layout, size, union) = match (&inode.body, &shape.listing) {
            (Body::File(content) | Body::Symlink(content), _) => find(content),
            (Body::Directory(_), Some(listing)) => {
                let inline = tail_size(listing.size) > 0;
                let layout = if inline { DataLayout::Inline } else { DataLayout::Plain };
                (layout, listing.size, self.first_block(shape, place))
            }
            (Body::Directory(_), None) => (DataLayout::Plain, 0, NO_BLOCK),
            (Body::Special(special), _) => (DataLayout::Plain, 0, device(*special)),
        };
        RawInode {
            layout,
            xattrs: xattr::count(&shape.xattrs),
            kind: inode.kind(),
            mode: inode.attributes.mode,
            size,
            union,
            number,
            uid: inode.attributes.uid,
            gid: inode.attributes.gid,
            mtime: inode.attributes.mtime,
            links: shape.listing.as_ref().map_or(inode.links, |listing| listing.links),
            implied: inode.attributes.implied,
        }
    }

    /// The first block of a directory that has any. There was room for all, so they have numbers.
    fn first_block(&self, shape: &Shape<'_>, place: Place) -> u32 {
        if shape.blocks() == 0 {
            return NO_BLOCK;
        }
        let block = u64::from(self.directories).saturating_add(place.block);
        u32::try_from(block).unwrap_or(NO_BLOCK)
    }

    fn after_inode(&mut self, id: Id, inode: &Inode) -> Result<(), Error> {
        match &inode.body {
            Body::Directory(directory) => {
                let last = Blocks::new(names(directory, id)).last().unwrap_or_default();
                let last = self.encode(&last);
                let size = u64::try_from(last.len()).unwrap_or(u64::MAX);
                if tail_size(size) > 0 { self.output.write(&last) } else { Ok(()) }
            }
            Body::File(content) | Body::Symlink(content) => match &content.rest {
                Rest::None => Ok(()),
                Rest::Tail(tail) => self.output.write(tail),
                Rest::Holes(holes) => self.chunks(content, holes),
            },
            Body::Special(_) => Ok(()),
        }
    }

    /// Writes the address of each chunk.
    fn chunks(&mut self, content: &Content, holes: &Holes) -> Result<(), Error> {
        let chunks = content.size.div_ceil(BLOCK_U64 << holes.chunk_bits);
        let chunks = u32::try_from(chunks).unwrap_or(u32::MAX);
        let mut next = content.block;
        let mut ahead = holes.holes.iter().peekable();
        for chunk in 0..chunks {
            ahead.next_if(|(_, end)| *end <= chunk);
            let hole = ahead.peek().is_some_and(|(start, _)| *start <= chunk);
            let address = if hole { NO_BLOCK } else { next };
            self.output.write(&address.to_le_bytes())?;
            if !hole {
                // The last chunk may end early: the sum is not used then.
                next = next.saturating_add(1 << holes.chunk_bits);
            }
        }
        Ok(())
    }
}

/// How some content is found: layout, size and `i_u`.
fn find(content: &Content) -> (DataLayout, u64, u32) {
    match &content.rest {
        Rest::None => (DataLayout::Plain, content.size, content.block),
        Rest::Tail(_) => (DataLayout::Inline, content.size, content.block),
        // Addresses are 4 bytes each: without EROFS_CHUNK_FORMAT_INDEXES.
        Rest::Holes(holes) => (DataLayout::Chunks, content.size, holes.chunk_bits.into()),
    }
}
