//! Files whose content is made when it is read, as those of `/proc`, `/sys` or a cgroup.
//!
//! They have size 0 or a page's, and change without being written. The guest must neither believe
//! the size nor keep what it read:
//! - `read` goes to the host each time, because the file is opened without the guest's cache;
//! - `sendfile` and `splice`, which `cat` of busybox uses, go through the cache all the same and
//!   end at the size. So where the host says 0, the guest is told another size each time that it
//!   asks. It finds the true end when it reads, and keeps nothing from one open to the next.
//!
//! Such file systems have no blocks, not even used ones.

use std::io;
use std::time::Duration;

use rustix::fs::{FileType, OFlags, fstatfs};
use virtiofsd::filesystem::{Context, Entry, FileSystem};
use virtiofsd::fuse::Attr;

use super::handle::with_file;
use super::share::Share;

/// File systems in memory that may say that they have no blocks (`statfs(2)`): tmpfs, ramfs and
/// hugetlbfs.
const OF_MEMORY: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// What the guest is told instead of size 0. Programs reserve as much memory, and `sendfile` sees
/// no more of a file.
const SIZE: u64 = 64 << 10;

impl Share {
    /// Whether the content of an open file is made when it is read.
    pub(super) fn live(&self, context: &Context, inode: u64, handle: u64) -> io::Result<bool> {
        with_file(&self.passthrough, context, (inode, handle), |file| {
            let told = fstatfs(file)?;
            Ok(told.f_blocks == 0 && !OF_MEMORY.contains(&told.f_type))
        })
    }

    /// What the guest is told of a name.
    pub(super) fn named(&self, context: Context, mut entry: Entry) -> Entry {
        if self.resize(context, entry.inode, &mut entry.attr) {
            entry.attr_timeout = Duration::ZERO;
            entry.entry_timeout = Duration::ZERO;
        }
        entry
    }

    /// What the guest is told of a file, and for how long it may believe it.
    pub(super) fn told(
        &self,
        context: Context,
        inode: u64,
        (mut attributes, valid): (Attr, Duration),
    ) -> (Attr, Duration) {
        let resized = self.resize(context, inode, &mut attributes);
        (attributes, if resized { Duration::ZERO } else { valid })
    }

    /// Gives an empty file that is only said to be empty another size.
    fn resize(&self, context: Context, inode: u64, attributes: &mut Attr) -> bool {
        let regular = FileType::from_raw_mode(attributes.mode) == FileType::RegularFile;
        if !regular || attributes.size != 0 || !self.seems_live(context, inode).unwrap_or(false) {
            return false;
        }
        attributes.size = SIZE;
        true
    }

    fn seems_live(&self, context: Context, inode: u64) -> io::Result<bool> {
        if self.passthrough.statfs(context, inode)?.f_blocks != 0 {
            return Ok(false);
        }
        // Opening it for reading might do something.
        let flags = OFlags::PATH.bits();
        let (Some(handle), _) = self.passthrough.open(context, inode, false, flags)? else {
            return Ok(false);
        };
        let live = self.live(&context, inode, handle);
        self.passthrough.release(context, inode, flags, handle, false, false, None)?;
        live
    }
}
