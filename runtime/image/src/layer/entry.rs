//! An entry of the archive, read from its headers.

use erofs::{Meta, Mtime, Special};
use tar_core::parse::ParsedEntry;
use tar_core::{EntryType, SparseEntry};

use super::error::{EntryProblem, LayerError, shown};
use super::number::{binary, is_binary};
use super::pax::Pax;

/// Fields of a header that may be in base 256.
const SIZE: std::ops::Range<usize> = 124..136;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const MTIME: std::ops::Range<usize> = 136..148;

/// Where a header says its format.
const MAGIC: std::ops::Range<usize> = 257..262;

/// An entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is in the archive.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    /// Bytes of content that follow the headers.
    pub(super) stored: u64,
    /// Names of extended attributes that the image does not get.
    pub(super) dropped: Vec<Vec<u8>>,
}

/// What an entry is.
#[derive(Debug)]
pub(super) enum Kind {
    File(Content),
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Special(Special),
}

/// The content of a file: where what is stored belongs. All else is holes.
#[derive(Debug)]
pub(super) struct Content {
    /// Size of the file in bytes.
    pub(super) size: u64,
    /// Start and length of what is stored; in order, and within the size.
    pub(super) pieces: Vec<(u64, u64)>,
}

/// The map of a sparse file and its size.
pub(super) type Sparse = (Vec<SparseEntry>, u64);

impl Entry {
    /// Reads an entry; `sparse` if it has a map of holes.
    ///
    /// # Errors
    /// [`LayerError::Entry`].
    pub(super) fn new(
        parsed: &ParsedEntry<'_>,
        sparse: Option<Sparse>,
    ) -> Result<Self, LayerError> {
        let path = parsed.path.to_vec();
        let read = || {
            let pax = Pax::new(parsed.pax.unwrap_or_default())?;
            let meta = meta(parsed, &pax)?;
            let (kind, stored) = kind(parsed, &pax, sparse)?;
            Ok((kind, meta, stored, pax))
        };
        let (kind, mut meta, stored, pax) =
            read().map_err(|problem| LayerError::Entry { path: shown(&path), problem })?;
        meta.xattrs = pax.xattrs;
        Ok(Self { path, kind, meta, stored, dropped: pax.dropped })
    }
}

/// A number of the header. `octal`: what it is if it is not in base 256.
fn number(
    parsed: &ParsedEntry<'_>,
    (field, at): (&'static str, std::ops::Range<usize>),
    octal: Result<u64, tar_core::HeaderError>,
) -> Result<i64, EntryProblem> {
    let bytes = parsed.header.as_bytes().get(at).unwrap_or_default();
    let value = match octal {
        _ if is_binary(bytes) => binary(bytes),
        Ok(octal) => i64::try_from(octal).ok(),
        Err(_) => None,
    };
    value.ok_or_else(|| EntryProblem::Number { field, value: shown(bytes) })
}

fn meta(parsed: &ParsedEntry<'_>, pax: &Pax) -> Result<Meta, EntryProblem> {
    let header = parsed.header;
    let id = |field, at, octal, pax: Option<u64>| {
        let value = match pax {
            Some(value) => u32::try_from(value).map_err(|_| value.to_string()),
            None => {
                let value = number(parsed, (field, at), octal)?;
                u32::try_from(value).map_err(|_| value.to_string())
            }
        };
        value.map_err(|value| EntryProblem::Number { field, value })
    };
    let mtime = match pax.mtime {
        Some(mtime) => mtime,
        None => {
            let seconds = number(parsed, ("time", MTIME), header.mtime())?;
            Mtime { seconds, nanoseconds: 0 }
        }
    };
    Ok(Meta {
        mode: u16::try_from(parsed.mode & 0o7777).unwrap_or_default(),
        uid: id("user id", UID, header.uid(), pax.uid)?,
        gid: id("group id", GID, header.gid(), pax.gid)?,
        mtime,
        ..Meta::default()
    })
}

/// What the entry is, and how many bytes follow its headers. Only files have any, whatever the
/// headers of others say, as in Go's `archive/tar`.
fn kind(
    parsed: &ParsedEntry<'_>,
    pax: &Pax,
    sparse: Option<Sparse>,
) -> Result<(Kind, u64), EntryProblem> {
    let header = parsed.header.as_bytes();
    let flag = parsed.header.as_ustar().typeflag[0];
    let known = parsed.header.is_ustar() || parsed.header.is_gnu();
    if header.get(MAGIC) == Some(b"ustar") && !known {
        return Err(EntryProblem::Version);
    }
    let unknown = EntryProblem::Type { kind: flag };
    // Before POSIX a slash at the end made a directory.
    let old_directory = flag == 0 && parsed.path.ends_with(b"/");
    let target = || parsed.link_target.clone().ok_or(EntryProblem::NoTarget).map(Into::into);
    let device = || parsed.dev_major.zip(parsed.dev_minor).ok_or(EntryProblem::NoDevice);
    let kind = match parsed.entry_type {
        EntryType::Regular | EntryType::Continuous if !old_directory => {
            return file(parsed, pax, sparse);
        }
        EntryType::GnuSparse if sparse.is_some() => return file(parsed, pax, sparse),
        _ if sparse.is_some() => return Err(EntryProblem::Sparse("is that of no file")),
        EntryType::Regular | EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(target()?),
        EntryType::Link => Kind::HardLink(target()?),
        EntryType::Char => {
            let (major, minor) = device()?;
            Kind::Special(Special::Character { major, minor })
        }
        EntryType::Block => {
            let (major, minor) = device()?;
            Kind::Special(Special::Block { major, minor })
        }
        EntryType::Fifo => Kind::Special(Special::Fifo),
        _ => return Err(unknown),
    };
    Ok((kind, 0))
}

fn file(
    parsed: &ParsedEntry<'_>,
    pax: &Pax,
    sparse: Option<Sparse>,
) -> Result<(Kind, u64), EntryProblem> {
    let in_header = number(parsed, ("size", SIZE), parsed.header.entry_size())?;
    let wrong = || EntryProblem::Number { field: "size", value: in_header.to_string() };
    let in_header = u64::try_from(in_header).map_err(|_| wrong())?;
    let map_in_content = pax.sparse == [Some(1), Some(0)] && sparse.is_some();
    if map_in_content && pax.size.is_some() {
        // The library takes the map off the header's size alone.
        return Err(EntryProblem::Sparse("is in its content, which has a size of its own"));
    }
    let stored = if map_in_content { parsed.size } else { pax.size.unwrap_or(in_header) };
    if stored != parsed.size {
        return Err(wrong());
    }
    let content = match sparse {
        None => Content { size: stored, pieces: vec![(0, stored)] },
        Some((map, size)) => Content { size, pieces: pieces(&map, size, stored)? },
    };
    Ok((Kind::File(content), stored))
}

/// The map of a sparse file, if it is one.
fn pieces(map: &[SparseEntry], size: u64, stored: u64) -> Result<Vec<(u64, u64)>, EntryProblem> {
    let wrong = |what| Err(EntryProblem::Sparse(what));
    let (mut at, mut sum) = (0, 0_u64);
    let mut pieces = Vec::with_capacity(map.len());
    for SparseEntry { offset, length } in map {
        if *offset < at {
            return wrong("has pieces out of order");
        }
        match offset.checked_add(*length).filter(|end| *end <= size) {
            Some(end) => at = end,
            None => return wrong("leads beyond the file's end"),
        }
        // Both are within the size.
        sum = sum.saturating_add(*length);
        pieces.push((*offset, *length));
    }
    if sum != stored { wrong("has not as many bytes as are stored") } else { Ok(pieces) }
}
