//! The headers of one entry: those of POSIX' `ustar`, and a PAX header where these can't say it
//! (pure).

use erofs::{Inode, Mtime, Piece, Special};
use tar_core::builder::EntryBuilder;
use tar_core::{EntryType, HeaderError, SparseEntry};

/// Before the name of an extended attribute.
const XATTR: &str = "SCHILY.xattr.";

/// What overlayfs obeys. Marks of the archive say the same.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// Largest size of a header's field. A sparse file must have one, as its map counts as content, and
/// no reader takes it from a PAX header.
const MAX_SPARSE: u64 = (8 << 30) - (32 << 20);

const NANOSECONDS: u32 = 1_000_000_000;

/// What an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    Directory,
    /// Content follows; without the holes if it is `sparse`.
    File {
        pieces: &'a [Piece],
        sparse: bool,
    },
    Symlink(&'a [u8]),
    HardLink(&'a [u8]),
    Special(Special),
    /// An empty file whose name alone says something.
    Mark,
}

/// An entry. A mark has no inode.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a [u8],
    pub(super) meta: Option<&'a Inode>,
    pub(super) content: Content<'a>,
}

/// Whether a file is written without its holes.
pub(super) fn is_sparse(pieces: &[Piece], size: u64) -> bool {
    let stored: u64 = pieces.iter().map(|piece| piece.len).sum();
    stored < size && stored <= MAX_SPARSE
}

impl Entry<'_> {
    /// The bytes before its content.
    ///
    /// # Errors
    /// What no archive can have.
    pub(super) fn headers(&self) -> Result<Vec<u8>, &'static str> {
        let mut entry = EntryBuilder::new_ustar();
        entry.path(self.path).entry_type(self.kind()?);
        let too_large = |_: HeaderError| "a number is too large for an archive";
        self.numbers(&mut entry).map_err(too_large)?;
        match self.content {
            Content::Symlink(target) | Content::HardLink(target) => {
                entry.link_name(target);
            }
            Content::Special(
                Special::Character { major, minor } | Special::Block { major, minor },
            ) => {
                entry.device(major, minor).map_err(too_large)?;
            }
            _ => {}
        }
        let Some(inode) = self.meta else { return Ok(entry.finish_bytes()) };
        if let Some(time) = time(inode.mtime) {
            entry.add_pax("mtime", time);
        }
        if !matches!(self.content, Content::HardLink(_)) {
            for (name, value) in &inode.xattrs {
                attribute(&mut entry, name, value)?;
            }
        }
        if let Content::File { pieces, sparse: true } = self.content {
            entry.sparse(&map(pieces, inode.size), inode.size);
        }
        Ok(entry.finish_bytes())
    }

    fn kind(&self) -> Result<EntryType, &'static str> {
        Ok(match self.content {
            Content::Directory => EntryType::Directory,
            Content::File { .. } | Content::Mark => EntryType::Regular,
            Content::Symlink(_) => EntryType::Symlink,
            Content::HardLink(_) => EntryType::Link,
            Content::Special(Special::Character { .. }) => EntryType::Char,
            Content::Special(Special::Block { .. }) => EntryType::Block,
            Content::Special(Special::Fifo) => EntryType::Fifo,
            Content::Special(Special::Socket) => return Err("an archive can't have a socket"),
        })
    }

    fn numbers(&self, entry: &mut EntryBuilder) -> Result<(), HeaderError> {
        let inode = self.meta;
        let size = match self.content {
            Content::File { pieces, sparse: true } => pieces.iter().map(|piece| piece.len).sum(),
            Content::File { .. } => inode.map_or(0, |inode| inode.size),
            _ => 0,
        };
        let seconds = inode.filter(|inode| time(inode.mtime).is_none());
        let seconds = seconds.and_then(|inode| u64::try_from(inode.mtime.seconds).ok());
        entry
            .mode(inode.map_or(0o644, |inode| u32::from(inode.mode)))?
            .uid(inode.map_or(0, |inode| u64::from(inode.uid)))?
            .gid(inode.map_or(0, |inode| u64::from(inode.gid)))?
            .size(size)?
            .mtime(seconds.unwrap_or(0))?;
        Ok(())
    }
}

/// A time that the header's field can't have, in seconds with a fraction.
fn time(Mtime { seconds, nanoseconds }: Mtime) -> Option<String> {
    if nanoseconds == 0 && seconds >= 0 {
        // The builder itself makes a record of one that is too large.
        return None;
    }
    if nanoseconds == 0 {
        return Some(seconds.to_string());
    }
    if seconds >= 0 {
        return Some(format!("{seconds}.{nanoseconds:09}"));
    }
    // Nanoseconds count forwards, digits after a minus sign backwards.
    let fraction = NANOSECONDS - nanoseconds;
    Some(format!("-{}.{fraction:09}", (seconds + 1).unsigned_abs()))
}

fn attribute(entry: &mut EntryBuilder, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if name.starts_with(OVERLAY) {
        return Ok(());
    }
    let name = str::from_utf8(name).ok().filter(|name| !name.contains('='));
    let name = name.ok_or("an archive can't have an extended attribute of such a name")?;
    entry.add_pax(&format!("{XATTR}{name}"), value);
    Ok(())
}

/// Where a sparse file has content. As with GNU tar, its end is told where it is a hole.
fn map(pieces: &[Piece], size: u64) -> Vec<SparseEntry> {
    let piece = |piece: &Piece| SparseEntry { offset: piece.start, length: piece.len };
    let mut map: Vec<_> = pieces.iter().map(piece).collect();
    if pieces.last().is_none_or(|last| last.start + last.len < size) {
        map.push(SparseEntry { offset: size, length: 0 });
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_importing_reads() {
        let text = |seconds, nanoseconds| time(Mtime { seconds, nanoseconds });
        assert_eq!(text(7, 0), None);
        assert_eq!(text(7, 5).as_deref(), Some("7.000000005"));
        assert_eq!(text(-7, 0).as_deref(), Some("-7"));
        assert_eq!(text(-2, 500_000_000).as_deref(), Some("-1.500000000"));
        assert_eq!(text(-1, 900_000_000).as_deref(), Some("-0.100000000"));
        assert_eq!(text(i64::MIN, 1).as_deref(), Some("-9223372036854775807.999999999"));
    }

    #[test]
    fn holes_of_files_beyond_what_a_header_can_say_are_written() {
        let piece = |len| [Piece { start: 0, len, at: 0 }];
        assert!(is_sparse(&piece(4096), 8192));
        assert!(!is_sparse(&piece(8192), 8192));
        assert!(!is_sparse(&piece(8 << 30), 9 << 30));
    }
}
