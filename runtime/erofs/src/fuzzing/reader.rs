//! A reader of what this crate writes, which takes nothing on trust.
//!
//! It also checks the checksum, the order of names and the counts of links and inodes. No two things
//! may share a byte.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{Mtime, Special};

const BLOCK: u64 = 4096;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// Blocks that are not all zeros, by their number in the file.
    File {
        size: u64,
        blocks: BTreeMap<u64, Vec<u8>>,
    },
    Symlink(Vec<u8>),
    Special(Special),
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub mode: u16,
    pub ids: [u32; 2],
    pub mtime: Mtime,
    pub links: u32,
    /// By whole names.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub entry: Entry,
    /// The first path of the same inode.
    pub first: Vec<u8>,
}

/// All paths. That of the root is empty, no other begins with a slash.
pub type Tree = BTreeMap<Vec<u8>, Found>;

type Result<T> = std::result::Result<T, String>;

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A name in a directory: the name, its nid and the type of what it leads to.
type Name = (Vec<u8>, u64, u8);

struct Inode {
    start: u64,
    layout: u16,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    mode: u16,
    size: u64,
    union: u32,
    ids: [u32; 2],
    mtime: Mtime,
    links: u32,
    /// Where what follows inode and attributes begins.
    rest: u64,
}

struct Reader<'a> {
    image: &'a [u8],
    /// First byte of the metadata.
    metadata: u64,
    /// Bytes that something takes: from, to.
    taken: Vec<(u64, u64)>,
    chunked: bool,
}

/// Reads an image.
///
/// # Errors
/// What is wrong with it.
pub fn read(image: &[u8]) -> Result<Tree> {
    let mut reader = Reader { image, metadata: 0, taken: vec![(0, BLOCK)], chunked: false };
    let number = |reader: &Reader<'_>, at: u64| reader.u32(1024 + at);
    expect(number(&reader, 0)? == 0xE0F5_E1E2, "magic")?;
    let mut superblock = reader.bytes(1024, 3072)?.to_vec();
    superblock[4..8].fill(0);
    expect(number(&reader, 4)? == checksum(&superblock), "checksum")?;
    expect(number(&reader, 8)? == 3, "compatible features")?;
    expect(reader.bytes(1024 + 12, 2)? == [12, 0], "block size")?;
    expect(image.len() as u64 == u64::from(number(&reader, 36)?) * BLOCK, "blocks")?;
    reader.metadata = u64::from(number(&reader, 40)?) * BLOCK;
    let root = u64::from(reader.u16(1024 + 14)?);
    let inodes = number(&reader, 16)?;
    let (tree, seen) = reader.walk(root)?;
    expect(u64::from(inodes) == seen, "number of inodes")?;
    expect(number(&reader, 80)? == if reader.chunked { 4 } else { 0 }, "features")?;
    reader.taken.sort_unstable();
    let apart = |pair: &[(u64, u64)]| pair[0].1 <= pair[1].0;
    expect(reader.taken.windows(2).all(apart), "two things in one place")?;
    Ok(tree)
}

fn expect(right: bool, what: &str) -> Result<()> {
    if right { Ok(()) } else { Err(format!("wrong: {what}")) }
}

fn checksum(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc % 2 == 1 { (crc / 2) ^ 0x82F6_3B78 } else { crc / 2 };
    bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

impl<'a> Reader<'a> {
    fn bytes(&self, at: u64, len: u64) -> Result<&'a [u8]> {
        let range = at as usize..(at + len) as usize;
        self.image.get(range).ok_or_else(|| format!("{len} bytes at {at} are not there"))
    }

    fn u16(&self, at: u64) -> Result<u16> {
        Ok(u16::from_le_bytes(self.bytes(at, 2)?.try_into().unwrap()))
    }

    fn u32(&self, at: u64) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(at, 4)?.try_into().unwrap()))
    }

    fn u64(&self, at: u64) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(at, 8)?.try_into().unwrap()))
    }

    fn take(&mut self, at: u64, len: u64) -> Result<&'a [u8]> {
        if len > 0 {
            self.taken.push((at, at + len));
        }
        self.bytes(at, len)
    }

    /// All paths, and how many inodes they lead to.
    fn walk(&mut self, root: u64) -> Result<(Tree, u64)> {
        let mut tree = Tree::new();
        let mut known: BTreeMap<u64, Entry> = BTreeMap::new();
        let mut paths: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        let mut todo = vec![(Vec::new(), root, root, 2)];
        while let Some((path, nid, parent, kind)) = todo.pop() {
            let same = paths.entry(nid).or_default();
            same.push(path.clone());
            if same.len() > 1 {
                expect(kind != 2, "a directory with two names")?;
                continue;
            }
            let inode = self.inode(nid)?;
            let (entry, names) = self.entry(&inode, (nid, parent))?;
            expect(self.type_of(&inode) == kind, "type in a directory")?;
            let prefix = if path.is_empty() { path } else { [&path[..], b"/"].concat() };
            let below = |name: &[u8]| [&prefix, name].concat();
            todo.extend(names.iter().map(|(name, to, kind)| (below(name), *to, nid, *kind)));
            known.insert(nid, entry);
        }
        for (nid, mut same) in paths {
            same.sort();
            let entry = &known[&nid];
            let links = same.len() as u32;
            expect(entry.kind == Kind::Directory || entry.links == links, "links")?;
            for path in &same {
                let found = Found { entry: entry.clone(), first: same[0].clone() };
                tree.insert(path.clone(), found);
            }
        }
        Ok((tree, known.len() as u64))
    }

    fn inode(&mut self, nid: u64) -> Result<Inode> {
        let start = self.metadata + nid * 32;
        self.take(start, 64)?;
        let format = self.u16(start)?;
        expect(format % 2 == 1 && format / 2 <= 4, "format of an inode")?;
        expect(start % BLOCK <= BLOCK - 64, "an inode in two blocks")?;
        let (xattrs, rest) = self.xattrs(start + 64, u64::from(self.u16(start + 2)?))?;
        let seconds = i64::from_le_bytes(self.u64(start + 32)?.to_le_bytes());
        Ok(Inode {
            start,
            layout: format / 2,
            xattrs,
            mode: self.u16(start + 4)?,
            size: self.u64(start + 8)?,
            union: self.u32(start + 16)?,
            ids: [self.u32(start + 24)?, self.u32(start + 28)?],
            mtime: Mtime { seconds, nanoseconds: self.u32(start + 40)? },
            links: self.u32(start + 44)?,
            rest,
        })
    }

    /// The attributes at a place, and where they end.
    fn xattrs(&mut self, at: u64, count: u64) -> Result<(Xattrs, u64)> {
        let mut all = BTreeMap::new();
        if count == 0 {
            return Ok((all, at));
        }
        expect(count > 1, "attributes without any")?;
        let end = at + 12 + 4 * (count - 1);
        expect(self.take(at, end - at)?[..12] == [0; 12], "header of attributes")?;
        let mut at = at + 12;
        while at < end {
            let head = self.bytes(at, 4)?;
            let prefix: &[u8] = match head[1] {
                1 => b"user.",
                2 => b"system.posix_acl_access",
                3 => b"system.posix_acl_default",
                4 => b"trusted.",
                6 => b"security.",
                other => return Err(format!("prefix {other}")),
            };
            let (name, value) = (u64::from(head[0]), u64::from(self.u16(at + 2)?));
            let whole = [prefix, self.bytes(at + 4, name)?].concat();
            let old = all.insert(whole, self.bytes(at + 4 + name, value)?.to_vec());
            expect(old.is_none(), "an attribute twice")?;
            at = (at + 4 + name + value).next_multiple_of(4);
        }
        expect(at == end, "end of attributes")?;
        Ok((all, end))
    }

    fn type_of(&self, inode: &Inode) -> u8 {
        match inode.mode >> 12 {
            0o10 => 1,
            0o04 => 2,
            0o02 => 3,
            0o06 => 4,
            0o01 => 5,
            0o14 => 6,
            0o12 => 7,
            _ => 0,
        }
    }

    fn entry(&mut self, inode: &Inode, own: (u64, u64)) -> Result<(Entry, Vec<Name>)> {
        let mut names = Vec::new();
        let number = inode.union;
        let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00);
        let kind = match self.type_of(inode) {
            1 => Kind::File { size: inode.size, blocks: self.blocks(inode)? },
            2 => {
                names = self.names(inode, own)?;
                Kind::Directory
            }
            3 => Kind::Special(Special::Character { major, minor }),
            4 => Kind::Special(Special::Block { major, minor }),
            5 => Kind::Special(Special::Fifo),
            6 => Kind::Special(Special::Socket),
            7 => Kind::Symlink(self.content(inode)?),
            _ => return Err(format!("mode {:o}", inode.mode)),
        };
        let Inode { ids, mtime, links, .. } = *inode;
        let xattrs = inode.xattrs.clone();
        Ok((Entry { kind, mode: inode.mode % 0o10_000, ids, mtime, links, xattrs }, names))
    }

    /// The content of a small inode.
    fn content(&mut self, inode: &Inode) -> Result<Vec<u8>> {
        let mut all = vec![0; inode.size as usize];
        for (number, block) in self.blocks(inode)? {
            let start = (number * BLOCK) as usize;
            let end = all.len().min(start + BLOCK as usize);
            all[start..end].copy_from_slice(&block[..end - start]);
        }
        Ok(all)
    }

    /// Blocks of an inode that are not all zeros.
    fn blocks(&mut self, inode: &Inode) -> Result<BTreeMap<u64, Vec<u8>>> {
        let count = inode.size.div_ceil(BLOCK);
        let mut blocks = BTreeMap::new();
        match inode.layout {
            0 => self.read_run(&mut blocks, 0..count, inode.union)?,
            2 => {
                let last = count - 1;
                self.read_run(&mut blocks, 0..last, inode.union)?;
                let len = inode.size - last * BLOCK;
                expect(inode.rest % BLOCK + len <= BLOCK, "a tail in two blocks")?;
                let mut tail = self.take(inode.rest, len)?.to_vec();
                tail.resize(BLOCK as usize, 0);
                blocks.insert(last, tail);
            }
            4 => {
                self.chunked = true;
                let chunk = 1 << inode.union;
                let chunks = count.div_ceil(chunk);
                self.take(inode.rest, 4 * chunks)?;
                for number in 0..chunks {
                    let address = self.u32(inode.rest + 4 * number)?;
                    let present = u64::from(address != u32::MAX);
                    let first = number * chunk;
                    let end = (first + present * chunk).min(count);
                    self.read_run(&mut blocks, first..end, address)?;
                }
            }
            other => return Err(format!("layout {other} at {}", inode.start)),
        }
        blocks.retain(|_, block| block.iter().any(|byte| *byte != 0));
        Ok(blocks)
    }

    /// Reads blocks that lie one after the other from an address on.
    fn read_run(
        &mut self,
        blocks: &mut BTreeMap<u64, Vec<u8>>,
        numbers: Range<u64>,
        address: u32,
    ) -> Result<()> {
        for (number, at) in numbers.zip(u64::from(address)..) {
            blocks.insert(number, self.take(at * BLOCK, BLOCK)?.to_vec());
        }
        Ok(())
    }

    /// The names in a directory, without `.` and `..`.
    fn names(&mut self, inode: &Inode, (own, parent): (u64, u64)) -> Result<Vec<Name>> {
        let content = self.content(inode)?;
        let mut names: Vec<Name> = Vec::new();
        for block in content.chunks(BLOCK as usize) {
            names.extend(names_of_block(block)?);
        }
        expect(names.windows(2).all(|pair| pair[0].0 < pair[1].0), "order of names")?;
        let directories = names.iter().filter(|name| name.2 == 2).count() as u32;
        expect(inode.links == directories, "links of a directory")?;
        for (dots, nid) in [(&b"."[..], own), (b"..", parent)] {
            let at = names.iter().position(|name| name.0 == dots).ok_or("no dots")?;
            expect(names.remove(at) == (dots.to_vec(), nid, 2), "dots")?;
        }
        Ok(names)
    }
}

fn names_of_block(block: &[u8]) -> Result<Vec<Name>> {
    let number = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]) as usize;
    let end = number(8);
    expect(end > 0 && end % 12 == 0 && end < block.len(), "names in a block")?;
    let mut names = Vec::new();
    for at in (0..end).step_by(12) {
        let from = number(at + 8);
        let to = if at + 12 < end { number(at + 20) } else { block.len() };
        let name = block.get(from..to).ok_or("a name outside of its block")?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        expect(at + 12 == end || name.len() == to - from, "zero in a name")?;
        expect(!name.is_empty() && name.len() <= 255, "length of a name")?;
        let nid = u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
        names.push((name.to_vec(), nid, block[at + 10]));
    }
    Ok(names)
}
