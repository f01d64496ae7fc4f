//! Files without a name (`O_TMPFILE`), which the library has no request for.
//!
//! Its only way to a file is to look up a name. Files that have none are kept here, by numbers
//! that it never gives out. One that is given a name (`linkat`) is from then on two files to the
//! guest: the open one, which stays here until it is forgotten, and the named one of the library.
//!
//! The guest's kernel has checked who may create in the directory.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use virtiofsd::filesystem::{Context, Entry, FileSystem, SetattrValid};
use virtiofsd::fuse::{Attr, CreateIn, SetattrIn};
use virtiofsd::passthrough::PassthroughFs;
use virtiofsd::soft_idmap::{GuestGid, GuestUid, Id};

use super::handle::with_file;
use super::ownership::{SET_GROUP, SET_IDS};

/// The first number; the library counts from 2.
const FIRST: u64 = 1 << 62;

/// Most such files at a time: their descriptors are not among those that the library counts.
const MOST: usize = 512;

/// For how long the guest may believe what it knows: a name that the file is given changes it, and
/// the guest takes that for another file's.
pub(super) const NOT_BELIEVED: Duration = Duration::ZERO;

/// The files.
#[derive(Debug, Default)]
pub(super) struct Nameless {
    files: Mutex<BTreeMap<u64, Known>>,
    made: AtomicU64,
}

/// A file and how often the guest has been told of it.
#[derive(Debug)]
struct Known {
    file: Arc<File>,
    count: u64,
}

impl Nameless {
    fn files(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of that number.
    pub(super) fn get(&self, inode: u64) -> Option<Arc<File>> {
        if inode < FIRST {
            return None;
        }
        self.files().get(&inode).map(|known| Arc::clone(&known.file))
    }

    /// Takes back `count` tellings; whether the number is one of these.
    pub(super) fn forget(&self, inode: u64, count: u64) -> bool {
        if let std::collections::btree_map::Entry::Occupied(mut known) = self.files().entry(inode) {
            known.get_mut().count = known.get().count.saturating_sub(count);
            if known.get().count == 0 {
                known.remove();
            }
        }
        inode >= FIRST
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.files().clear();
    }

    /// Makes a file in the directory `parent`.
    ///
    /// # Errors
    /// ENFILE if there are too many; the host's.
    pub(super) fn make(
        &self,
        fs: &PassthroughFs,
        context: &Context,
        parent: u64,
        asked: CreateIn,
    ) -> io::Result<Entry> {
        if self.files().len() >= MOST {
            return Err(Errno::NFILE.into());
        }
        let file = in_directory(fs, context, parent, |directory| make(directory, context, asked))?;
        let attributes = attributes(&file)?;
        let inode = FIRST + self.made.fetch_add(1, Ordering::Relaxed);
        self.files().insert(inode, Known { file: Arc::new(file), count: 1 });
        Ok(Entry {
            inode,
            generation: 0,
            attr: attributes,
            attr_timeout: NOT_BELIEVED,
            entry_timeout: NOT_BELIEVED,
        })
    }
}

/// Calls `work` with a descriptor of a directory that the library knows.
fn in_directory<T>(
    fs: &PassthroughFs,
    context: &Context,
    inode: u64,
    work: impl FnOnce(&File) -> io::Result<T>,
) -> io::Result<T> {
    let flags = (OFlags::PATH | OFlags::DIRECTORY).bits();
    let handle = fs.open(*context, inode, false, flags)?.0.ok_or(Errno::BADF)?;
    let done = with_file(fs, context, (inode, handle), work);
    fs.release(*context, inode, flags, handle, false, false, None)?;
    done
}

/// Makes a file for the user of `context`, with what the directory has to say about its group and
/// its access control list.
fn make(directory: &File, context: &Context, asked: CreateIn) -> io::Result<File> {
    let keep = OFlags::from_bits_retain(asked.flags) & OFlags::EXCL;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | keep;
    let before = rustix::process::umask(Mode::from_raw_mode(asked.umask));
    let made = rustix::fs::openat(directory, ".", flags, Mode::from_raw_mode(asked.mode));
    rustix::process::umask(before);
    let file = File::from(made?);
    if context.uid.is_root() && context.gid.is_root() {
        return Ok(file);
    }
    let group = (directory.metadata()?.mode() & SET_GROUP == 0).then_some(context.gid);
    own(&file, Some(context.uid), group)?;
    if asked.mode & SET_IDS != 0 {
        let mode = Mode::from_raw_mode(asked.mode & !asked.umask);
        rustix::fs::fchmod(&file, mode)?;
    }
    Ok(file)
}

fn own(file: &File, user: Option<GuestUid>, group: Option<GuestGid>) -> io::Result<()> {
    let user = user.map(|user| Uid::from_raw(user.into_inner()));
    let group = group.map(|group| Gid::from_raw(group.into_inner()));
    Ok(rustix::fs::fchown(file, user, group)?)
}

/// Gives the file a name in a directory that the library knows.
pub(super) fn name(
    fs: &PassthroughFs,
    context: &Context,
    file: &File,
    (parent, name): (u64, &CStr),
) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    in_directory(fs, context, parent, |directory| {
        Ok(rustix::fs::linkat(CWD, &path, directory, name, AtFlags::SYMLINK_FOLLOW)?)
    })
}

/// What the guest is told of the file.
pub(super) fn attributes(file: &File) -> io::Result<Attr> {
    let told = file.metadata()?;
    // Times are as in `struct stat`, negative ones too; the other numbers have the size that the
    // protocol gives them.
    let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let nanoseconds = |number: i64| u32::try_from(number).unwrap_or(0);
    Ok(Attr {
        ino: told.ino(),
        size: told.size(),
        blocks: told.blocks(),
        atime: told.atime().cast_unsigned(),
        mtime: told.mtime().cast_unsigned(),
        ctime: told.ctime().cast_unsigned(),
        atimensec: nanoseconds(told.atime_nsec()),
        mtimensec: nanoseconds(told.mtime_nsec()),
        ctimensec: nanoseconds(told.ctime_nsec()),
        mode: told.mode(),
        nlink: short(told.nlink()),
        uid: told.uid().into(),
        gid: told.gid().into(),
        rdev: short(told.rdev()),
        blksize: short(told.blksize()),
        flags: 0,
    })
}

/// Changes what `valid` names.
pub(super) fn change(file: &File, to: &SetattrIn, valid: SetattrValid) -> io::Result<()> {
    if valid.contains(SetattrValid::MODE) {
        rustix::fs::fchmod(file, Mode::from_raw_mode(to.mode & 0o7777))?;
    }
    if valid.intersects(SetattrValid::UID | SetattrValid::GID) {
        let user = valid.contains(SetattrValid::UID).then_some(to.uid);
        own(file, user, valid.contains(SetattrValid::GID).then_some(to.gid))?;
    }
    if valid.contains(SetattrValid::SIZE) {
        file.set_len(to.size)?;
    }
    if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
        let time = |set, now, seconds: u64, nanoseconds: u32| Timespec {
            tv_sec: seconds.cast_signed(),
            tv_nsec: match (valid.contains(set), valid.contains(now)) {
                (false, _) => UTIME_OMIT,
                (_, true) => UTIME_NOW,
                _ => nanoseconds.into(),
            },
        };
        let (access, now) = (SetattrValid::ATIME, SetattrValid::ATIME_NOW);
        let last_access = time(access, now, to.atime, to.atimensec);
        let (modification, now) = (SetattrValid::MTIME, SetattrValid::MTIME_NOW);
        let last_modification = time(modification, now, to.mtime, to.mtimensec);
        rustix::fs::futimens(file, &Timestamps { last_access, last_modification })?;
    }
    Ok(())
}

/// Refuses attributes whose names the library would map: they are not known by any other name.
pub(super) fn plain_attribute(name: &CStr) -> io::Result<()> {
    let mapped = [&b"trusted."[..], b"user.virtiofs."];
    if mapped.iter().any(|prefix| name.to_bytes().starts_with(prefix)) {
        return Err(Errno::OPNOTSUPP.into());
    }
    Ok(())
}
