//! Answers to requests for directories, in which every name is there.
//!
//! A listing with attributes looks each name up. The library ends the answer where that fails:
//! for a mount whose server is gone, or a file that went a moment ago. Here such a name is
//! listed without attributes, which the protocol knows; who uses it gets the error.
//!
//! ```text
//!   READDIRPLUS ── next() ──► name, number, type ── lookup() ──► attributes, or none
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use virtiofsd::filesystem::{DirEntry, DirectoryIterator, Entry};
use virtiofsd::fuse::Attr;
use virtiofsd::read_dir::ReadDir;

/// Largest part of a directory in one answer; the protocol's usual limit.
const MAX_ANSWER: u32 = 1 << 20;

/// Bytes of the shortest entry, as the host lists it and as an answer has it: with attributes
/// and without.
const HOST_ENTRY: u32 = 24;
const PLUS_ENTRY: u32 = 160;
const PLAIN_ENTRY: u32 = 32;

/// Bytes of the longest entry as the host lists it, a name of 255 bytes.
const LONGEST_ENTRY: u32 = 280;

/// Bits by which a file's type is moved to become a part of its mode.
const TYPE_SHIFT: u32 = 12;

/// What the present request has to do with a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// 1 if it is one for names with attributes.
    plus: AtomicU32,
    /// Number and type of the name that was listed last; 0: none was.
    number: AtomicU64,
    file_type: AtomicU32,
}

impl Listing {
    /// Another request begins: one for names with attributes, or any other.
    pub(super) fn begin(&self, plus: bool) {
        self.plus.store(u32::from(plus), Ordering::Relaxed);
        self.number.store(0, Ordering::Relaxed);
    }

    /// How much of the directory to ask the host for, for an answer of `size` bytes: what
    /// surely fits. The rest would be asked for again, from a position that the host may not
    /// find again in a directory that changes.
    pub(super) fn host_size(&self, size: u32) -> u32 {
        let entry = if self.plus.load(Ordering::Relaxed) == 1 { PLUS_ENTRY } else { PLAIN_ENTRY };
        (size.min(MAX_ANSWER) / entry * HOST_ENTRY).max(LONGEST_ENTRY)
    }

    /// What stands for a name in a listing that can't be looked up; `None` where one asks for
    /// the name itself.
    pub(super) fn unknown(&self) -> Option<Entry> {
        let number = self.number.load(Ordering::Relaxed);
        let mode = self.file_type.load(Ordering::Relaxed) << TYPE_SHIFT;
        (number != 0).then(|| Entry {
            // No node: only the name is told.
            inode: 0,
            generation: 0,
            attr: Attr { ino: number, mode, ..Attr::default() },
            attr_timeout: std::time::Duration::ZERO,
            entry_timeout: std::time::Duration::ZERO,
        })
    }
}

/// The names of an answer.
pub(super) struct Names {
    names: ReadDir<Vec<u8>>,
    listing: Arc<Listing>,
}

impl Names {
    pub(super) fn new(names: ReadDir<Vec<u8>>, listing: Arc<Listing>) -> Self {
        Self { names, listing }
    }
}

impl DirectoryIterator for Names {
    fn next(&mut self) -> Option<DirEntry<'_>> {
        let entry = self.names.next()?;
        self.listing.number.store(entry.ino.max(1), Ordering::Relaxed);
        self.listing.file_type.store(entry.type_, Ordering::Relaxed);
        Some(entry)
    }
}
