//! The entries of an image, in memory.
//!
//! Inodes are in slots that are used again. A directory leads from names to slots. A slot is free
//! when its last name is gone.

use std::collections::BTreeMap;

use crate::account::{Account, Amounts};
use crate::disk::Type;
use crate::error::{Error, shown};
use crate::limits::Limits;
use crate::meta::{Attributes, Special};
use crate::path::names;

/// The number of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(u32);

impl Id {
    /// The root directory, which is never removed.
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// An inode.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) attributes: Attributes,
    /// Names that lead to it.
    pub(crate) links: u32,
    pub(crate) body: Body,
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Body {
    File(Content),
    Symlink(Content),
    Directory(Directory),
    Special(Special),
}

/// What can be read from a file or link.
#[derive(Debug)]
pub(crate) struct Content {
    /// In bytes.
    pub(crate) size: u64,
    /// Its first block, or [`crate::disk::NO_BLOCK`].
    pub(crate) block: u32,
    pub(crate) rest: Rest,
}

/// What is not in consecutive blocks.
#[derive(Debug)]
pub(crate) enum Rest {
    None,
    /// The last, partial block, which will follow the inode.
    Tail(Box<[u8]>),
    Holes(Box<Holes>),
}

/// Where a sparse file has no data. Its other chunks are in consecutive blocks.
#[derive(Debug)]
pub(crate) struct Holes {
    /// A chunk has two to the power of so many blocks.
    pub(crate) chunk_bits: u8,
    /// First chunk of each hole, and first chunk after it; ascending, no two touch.
    pub(crate) holes: Vec<(u32, u32)>,
}

/// A directory.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) parent: Id,
    /// Whether it hides what lower layers have below its name.
    pub(crate) opaque: bool,
    pub(crate) entries: BTreeMap<Box<[u8]>, Id>,
}

impl Inode {
    pub(crate) fn kind(&self) -> Type {
        match &self.body {
            Body::File(_) => Type::File,
            Body::Symlink(_) => Type::Symlink,
            Body::Directory(_) => Type::Directory,
            Body::Special(special) => Type::Special(*special),
        }
    }

    fn amounts(&self) -> Amounts {
        let mut amounts = Amounts { xattrs: bytes(&self.attributes.xattrs), ..Amounts::default() };
        match &self.body {
            Body::File(Content { rest: Rest::Tail(tail), .. }) => amounts.tails = bytes(tail),
            Body::File(Content { rest: Rest::Holes(holes), .. }) => {
                amounts.holes = u64::try_from(holes.holes.len()).unwrap_or(u64::MAX);
            }
            Body::Symlink(Content { rest: Rest::Tail(target), .. }) => {
                amounts.names = bytes(target);
            }
            Body::File(_) | Body::Symlink(_) | Body::Directory(_) | Body::Special(_) => {}
        }
        amounts
    }
}

fn bytes(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The account of one name.
fn amounts_of_name(name: &[u8]) -> Amounts {
    Amounts { entries: 1, names: bytes(name), ..Amounts::default() }
}

/// A name in a directory that exists.
#[derive(Debug)]
pub(crate) struct Spot {
    parent: Id,
    name: Box<[u8]>,
}

/// All entries.
#[derive(Debug)]
pub(crate) struct Tree {
    slots: Vec<Option<Inode>>,
    free: Vec<Id>,
    account: Account,
}

impl Tree {
    /// An empty root directory.
    pub(crate) fn new(limits: &Limits) -> Self {
        let root = Directory { parent: Id::ROOT, opaque: false, entries: BTreeMap::new() };
        let root = Inode {
            attributes: Attributes::of_missing_parent(),
            links: 1,
            body: Body::Directory(root),
        };
        Self { slots: vec![Some(root)], free: Vec::new(), account: Account::new(limits) }
    }

    /// Slots, in use or not.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The inode in a slot.
    pub(crate) fn get(&self, id: Id) -> Option<&Inode> {
        self.slots.get(id.index())?.as_ref()
    }

    fn get_mut(&mut self, id: Id) -> Option<&mut Inode> {
        self.slots.get_mut(id.index())?.as_mut()
    }

    /// The inode in a slot, if it is a directory.
    pub(crate) fn directory(&self, id: Id) -> Option<&Directory> {
        match &self.get(id)?.body {
            Body::Directory(directory) => Some(directory),
            Body::File(_) | Body::Symlink(_) | Body::Special(_) => None,
        }
    }

    fn directory_mut(&mut self, id: Id) -> Option<&mut Directory> {
        match &mut self.get_mut(id)?.body {
            Body::Directory(directory) => Some(directory),
            Body::File(_) | Body::Symlink(_) | Body::Special(_) => None,
        }
    }

    pub(crate) fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        self.directory(parent)?.entries.get(name).copied()
    }

    /// What is at a spot.
    pub(crate) fn at(&self, spot: &Spot) -> Option<Id> {
        self.child(spot.parent, &spot.name)
    }

    pub(crate) fn is_whiteout(&self, id: Id) -> bool {
        let kind = self.get(id).map(Inode::kind);
        kind == Some(Type::Special(Special::WHITEOUT))
    }

    pub(crate) fn has_room_for_tail(&self, bytes: u64) -> bool {
        self.account.has_room_for_tail(bytes)
    }

    /// What is at a path. No link is followed.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub(crate) fn find(&self, path: &[u8]) -> Result<Option<Id>, Error> {
        let mut names = names(path)?.into_iter();
        Ok(names.try_fold(Id::ROOT, |parent, name| self.child(parent, name)))
    }

    /// Where an entry with this path goes. Missing directories above it are made; whiteouts there
    /// become opaque directories.
    ///
    /// # Errors
    /// [`Error::Path`], also for the root, [`Error::NotADirectory`] or [`Error::Limit`].
    pub(crate) fn spot(&mut self, path: &[u8]) -> Result<Spot, Error> {
        let mut names = names(path)?;
        let name = names.pop().ok_or_else(|| Error::path(path, "is that of the root"))?;
        let parent = self.make_directories(path, names)?;
        Ok(Spot { parent, name: name.into() })
    }

    fn make_directories(&mut self, path: &[u8], names: Vec<&[u8]>) -> Result<Id, Error> {
        let mut parent = Id::ROOT;
        for name in names {
            parent = match self.child(parent, name) {
                Some(id) if self.directory(id).is_some() => id,
                Some(id) if !self.is_whiteout(id) => {
                    return Err(Error::NotADirectory { path: shown(path) });
                }
                _ => {
                    let spot = Spot { parent, name: name.into() };
                    self.put_directory(spot, Attributes::of_missing_parent())?
                }
            };
        }
        Ok(parent)
    }

    /// Puts an empty directory at a spot.
    fn put_directory(&mut self, spot: Spot, attributes: Attributes) -> Result<Id, Error> {
        // What a whiteout has hidden stays hidden.
        let opaque = self.at(&spot).is_some_and(|id| self.is_whiteout(id));
        let directory = Directory { parent: spot.parent, opaque, entries: BTreeMap::new() };
        self.put(spot, attributes, Body::Directory(directory))
    }

    /// Makes a directory in place of what is no directory, or gives one other attributes.
    ///
    /// # Errors
    /// As [`Self::spot`], but the root is as any directory.
    pub(crate) fn set_directory(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        opaque: bool,
    ) -> Result<(), Error> {
        let id = match self.find(path)?.filter(|id| self.directory(*id).is_some()) {
            Some(id) => self.set_attributes(id, attributes).map(|()| id)?,
            None => {
                let spot = self.spot(path)?;
                self.put_directory(spot, attributes)?
            }
        };
        if opaque {
            self.set_opaque(id);
        }
        Ok(())
    }

    fn set_attributes(&mut self, id: Id, attributes: Attributes) -> Result<(), Error> {
        let Some(Some(inode)) = self.slots.get_mut(id.index()) else { return Ok(()) };
        self.account.remove(inode.amounts());
        inode.attributes = attributes;
        self.account.add(inode.amounts())
    }

    /// Makes the directory at a path if there is none, and what it hides.
    ///
    /// # Errors
    /// As [`Self::spot`], but the root is as any directory.
    pub(crate) fn make_opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        let id = self.make_directories(path, names(path)?)?;
        self.set_opaque(id);
        Ok(())
    }

    /// Makes a directory opaque; other inodes stay as they are.
    pub(crate) fn set_opaque(&mut self, id: Id) {
        if let Some(directory) = self.directory_mut(id) {
            directory.opaque = true;
        }
    }

    /// Puts an inode at a spot. What was there is removed, with all below it.
    ///
    /// # Errors
    /// [`Error::Limit`]; what was there may be gone then.
    pub(crate) fn put(
        &mut self,
        spot: Spot,
        attributes: Attributes,
        body: Body,
    ) -> Result<Id, Error> {
        let inode = Inode { attributes, links: 0, body };
        self.remove(&spot);
        self.account.add(inode.amounts())?;
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = u32::try_from(self.slots.len());
                let id = Id(id.map_err(|_| Error::Limit { what: "inodes", limit: 1 << 32 })?);
                self.slots.push(None);
                id
            }
        };
        if let Some(slot) = self.slots.get_mut(id.index()) {
            *slot = Some(inode);
        }
        self.name(spot, id)?;
        Ok(id)
    }

    /// Gives an inode one more name. What had the name is removed, with all below it.
    ///
    /// # Errors
    /// [`Error::Limit`]; what had the name may be gone then.
    pub(crate) fn link(&mut self, spot: Spot, id: Id) -> Result<(), Error> {
        // Removing what is at the spot must not remove the inode.
        self.count_link(id);
        self.remove(&spot);
        let named = self.name(spot, id);
        self.drop_link(id);
        named
    }

    /// Writes a name into a directory that has no such name.
    fn name(&mut self, spot: Spot, id: Id) -> Result<(), Error> {
        self.account.add(amounts_of_name(&spot.name))?;
        if let Some(directory) = self.directory_mut(spot.parent) {
            directory.entries.insert(spot.name, id);
        }
        self.count_link(id);
        Ok(())
    }

    /// The limit of entries is far below that of a number of 32 bits.
    fn count_link(&mut self, id: Id) {
        if let Some(inode) = self.get_mut(id) {
            inode.links = inode.links.saturating_add(1);
        }
    }

    /// Takes a name out of a directory, and all that only it led to.
    fn remove(&mut self, spot: &Spot) {
        let directory = self.directory_mut(spot.parent);
        let Some(id) = directory.and_then(|all| all.entries.remove(&spot.name)) else { return };
        self.account.remove(amounts_of_name(&spot.name));
        self.drop_link(id);
    }

    /// Forgets one name of an inode, and all that only this one led to. A tree may be deep: there
    /// is no recursion.
    fn drop_link(&mut self, id: Id) {
        let mut dropped = vec![id];
        while let Some(id) = dropped.pop() {
            let Some(inode) = self.get_mut(id) else { continue };
            inode.links = inode.links.saturating_sub(1);
            if inode.links > 0 {
                continue;
            }
            let Some(inode) = self.slots.get_mut(id.index()).and_then(Option::take) else {
                continue;
            };
            self.account.remove(inode.amounts());
            self.free.push(id);
            let Body::Directory(directory) = inode.body else { continue };
            for (name, child) in directory.entries {
                self.account.remove(amounts_of_name(&name));
                dropped.push(child);
            }
        }
    }
}

#[cfg(test)]
mod tests;
