//! What a tree is after some calls, by the plainest means: a map of whole paths.

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Entry, Found, Kind, Tree};
use crate::{Meta, Mtime, Special};

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const ORIGIN: &[u8] = b"trusted.overlay.origin";

/// A tree. Each call says whether it is to succeed.
#[derive(Debug)]
pub struct Model {
    /// Numbers of inodes by path; that of the root is empty.
    names: BTreeMap<Vec<u8>, usize>,
    inodes: Vec<Entry>,
    opaque: BTreeSet<usize>,
}

impl Default for Model {
    fn default() -> Self {
        let mut model =
            Self { names: BTreeMap::new(), inodes: Vec::new(), opaque: BTreeSet::new() };
        model.insert(b"", Kind::Directory, &implied());
        model
    }
}

/// Attributes, and the extended ones among them by their whole names.
#[derive(Debug, Clone, Default)]
pub struct Described {
    pub meta: Meta,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Attributes of directories that no call has described.
fn implied() -> Described {
    Described { meta: Meta { mode: 0o755, ..Meta::default() }, ..Described::default() }
}

fn normal(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let parts = path.split(|byte| *byte == b'/');
    if path.len() >= 4096 || path.contains(&0) || parts.clone().any(|part| part.len() > 255) {
        return None;
    }
    let mut normal = Vec::new();
    for part in parts {
        if part == b".." {
            normal.pop();
        } else if !part.is_empty() && part != b"." {
            normal.push(part.to_vec());
        }
    }
    Some(normal)
}

fn is_whiteout(kind: &Kind) -> bool {
    *kind == Kind::Special(Special::Character { major: 0, minor: 0 })
}

fn entry(kind: Kind, Described { meta, xattrs }: &Described) -> Entry {
    let mtime =
        Mtime { seconds: meta.mtime.seconds, nanoseconds: meta.mtime.nanoseconds.min(999_999_999) };
    Entry {
        kind,
        mode: meta.mode % 0o10_000,
        ids: [meta.uid, meta.gid],
        mtime,
        links: 0,
        xattrs: xattrs.clone(),
    }
}

impl Model {
    fn kind(&self, path: &[u8]) -> Option<&Kind> {
        Some(&self.inodes[*self.names.get(path)?].kind)
    }

    /// A new inode at a path that has none.
    fn insert(&mut self, path: &[u8], kind: Kind, own: &Described) -> usize {
        self.inodes.push(entry(kind, own));
        self.names.insert(path.to_vec(), self.inodes.len() - 1);
        self.inodes.len() - 1
    }

    fn remove(&mut self, path: &[u8]) {
        let below = [path, b"/"].concat();
        self.names.retain(|name, _| name != path && !name.starts_with(&below));
    }

    /// Makes the directories with these names, each in the one before.
    fn parents(&mut self, names: &[Vec<u8>]) -> bool {
        for end in 1..=names.len() {
            let path = names[..end].join(&b'/');
            match self.kind(&path) {
                Some(Kind::Directory) => {}
                Some(kind) if !is_whiteout(kind) => return false,
                _ => self.new_directory(&path, &implied()),
            }
        }
        true
    }

    fn new_directory(&mut self, path: &[u8], own: &Described) {
        let hidden = self.kind(path).is_some_and(is_whiteout);
        self.remove(path);
        let inode = self.insert(path, Kind::Directory, own);
        if hidden {
            self.opaque.insert(inode);
        }
    }

    /// The whole path of a new entry, whose parents are made.
    fn place(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        let names = normal(path)?;
        let (_, parents) = names.split_last()?;
        self.parents(parents).then(|| names.join(&b'/'))
    }

    fn put(&mut self, path: &[u8], kind: Kind, own: &Described) -> bool {
        let Some(path) = self.place(path) else { return false };
        self.remove(&path);
        self.insert(&path, kind, own);
        true
    }

    pub fn directory(&mut self, path: &[u8], own: &Described) -> bool {
        let Some(names) = normal(path) else { return false };
        let whole = names.join(&b'/');
        let mut own = own.clone();
        own.xattrs.remove(ORIGIN);
        let opaque = own.xattrs.remove(OPAQUE).is_some_and(|value| value == b"y");
        if self.kind(&whole) == Some(&Kind::Directory) {
            self.inodes[self.names[&whole]] = entry(Kind::Directory, &own);
        } else {
            if self.place(path).is_none() {
                return false;
            }
            self.new_directory(&whole, &own);
        }
        if opaque {
            self.opaque.insert(self.names[&whole]);
        }
        true
    }

    pub fn opaque(&mut self, path: &[u8]) -> bool {
        let Some(names) = normal(path) else { return false };
        let made = self.parents(&names);
        if made {
            self.opaque.insert(self.names[&names.join(&b'/')]);
        }
        made
    }

    /// A file of a size with data at some offsets; `whole`: all its content came.
    pub fn file(
        &mut self,
        path: &[u8],
        own: &Described,
        (size, data): (u64, Vec<(u64, Vec<u8>)>),
        whole: bool,
    ) -> bool {
        if !whole {
            self.place(path);
            return false;
        }
        let mut blocks: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (at, byte) in data.iter().flat_map(|(at, data)| (*at..).zip(data)) {
            let block = blocks.entry(at / 4096).or_insert_with(|| vec![0; 4096]);
            block[(at % 4096) as usize] = *byte;
        }
        blocks.retain(|_, block| block.iter().any(|byte| *byte != 0));
        self.put(path, Kind::File { size, blocks }, own)
    }

    pub fn symlink(&mut self, path: &[u8], target: &[u8], own: &Described) -> bool {
        let possible = !target.is_empty() && target.len() < 4096 && !target.contains(&0);
        possible && self.put(path, Kind::Symlink(target.to_vec()), own)
    }

    pub fn special(&mut self, path: &[u8], special: Special, own: &Described) -> bool {
        let possible = match special {
            Special::Character { major, minor } | Special::Block { major, minor } => {
                major < 4096 && minor < 1 << 20
            }
            Special::Fifo | Special::Socket => true,
        };
        possible && self.put(path, Kind::Special(special), own)
    }

    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> bool {
        let Some(target) = normal(target).map(|names| names.join(&b'/')) else { return false };
        match self.kind(&target) {
            None | Some(Kind::Directory) => return false,
            Some(kind) if is_whiteout(kind) => return false,
            Some(_) => {}
        }
        let inode = self.names[&target];
        let Some(path) = self.place(path) else { return false };
        self.remove(&path);
        self.names.insert(path, inode);
        true
    }

    pub fn whiteout(&mut self, path: &[u8]) -> bool {
        let Some(whole) = self.place(path) else { return false };
        match self.kind(&whole) {
            None => {
                let whiteout = Special::Character { major: 0, minor: 0 };
                self.insert(&whole, Kind::Special(whiteout), &Described::default());
            }
            Some(Kind::Directory) => drop(self.opaque.insert(self.names[&whole])),
            Some(_) => {}
        }
        true
    }

    /// The tree with what the writer adds: counts of links and overlayfs' attributes.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for (path, inode) in &self.names {
            let mut entry = self.inodes[*inode].clone();
            let mut paths = self.names.iter().filter(|(_, other)| *other == inode);
            let first = paths.clone().next().map(|(path, _)| path.clone()).unwrap();
            entry.links = paths.by_ref().count() as u32;
            if entry.kind == Kind::Directory {
                self.finish_directory(&mut entry, path, self.opaque.contains(inode));
            }
            tree.insert(path.clone(), Found { entry, first });
        }
        tree
    }

    fn finish_directory(&self, entry: &mut Entry, path: &[u8], opaque: bool) {
        let children = self.children(path);
        let directories = children.iter().filter(|kind| ***kind == Kind::Directory);
        entry.links = 2 + directories.count() as u32;
        if opaque {
            entry.xattrs.insert(OPAQUE.to_vec(), b"y".to_vec());
        }
        if children.iter().any(|kind| is_whiteout(kind)) {
            entry.xattrs.insert(ORIGIN.to_vec(), Vec::new());
        }
    }

    fn children(&self, path: &[u8]) -> Vec<&Kind> {
        let is_child = |name: &&Vec<u8>| {
            let parent = name.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
            !name.is_empty() && &name[..parent] == path
        };
        self.names.keys().filter(is_child).filter_map(|name| self.kind(name)).collect()
    }
}
