//! Files without a name (`O_TMPFILE`), which the library has no request for.
//!
//! Its only way to a file is to look up a name. Files that have none are kept here, by numbers that
//! it never gives out. A file that is given a name (`linkat`) is from then on two files to the
//! guest. One is the open file, which stays here until it is forgotten. The other is the library's,
//! which has the name.
//!
//! The guest's kernel has checked who may create in the directory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use virtiofsd::filesystem::{
    Context, Entry, FileSystem, GetxattrReply, ListxattrReply, SetattrValid,
};
use virtiofsd::fuse::{Attr, CreateIn, SetattrIn};
use virtiofsd::passthrough::PassthroughFs;
use virtiofsd::passthrough::xattrmap::{AppliedRule, XattrMap};
use virtiofsd::soft_idmap::{GuestGid, GuestUid, Id};

use super::handle::with_file;
use super::privilege::{SET_GROUP, SET_IDS};

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

/// Writes what the host has in memory of the file to its disk; `data_only` as for fdatasync(2).
pub(super) fn sync(file: &File, data_only: bool) -> io::Result<()> {
    if data_only { file.sync_data() } else { file.sync_all() }
}

/// Position of the next data or the next hole; `whence` is SEEK_DATA or SEEK_HOLE, the only ones that
/// the guest's kernel does not answer itself.
pub(super) fn seek(file: &File, offset: u64, whence: u32) -> io::Result<u64> {
    let to = match whence.cast_signed() {
        libc::SEEK_DATA => SeekFrom::Data(offset),
        libc::SEEK_HOLE => SeekFrom::Hole(offset),
        _ => return Err(Errno::INVAL.into()),
    };
    Ok(rustix::fs::seek(file, to)?)
}

/// The name that an attribute of the guest's has on the host.
///
/// # Errors
/// EPERM if the guest is not to know it, EOPNOTSUPP if nobody is.
fn on_host<'a>(map: &XattrMap, name: &'a CStr) -> io::Result<Cow<'a, CStr>> {
    match map.map_client_xattr(name).map_err(io::Error::other)? {
        AppliedRule::Pass(name) => Ok(name),
        AppliedRule::Deny => Err(Errno::PERM.into()),
        AppliedRule::Unsupported => Err(Errno::OPNOTSUPP.into()),
    }
}

/// Gives the file an attribute.
pub(super) fn set_attribute(
    file: &File,
    map: &XattrMap,
    name: &CStr,
    (value, flags): (&[u8], u32),
) -> io::Result<()> {
    let flags = XattrFlags::from_bits_retain(flags);
    Ok(rustix::fs::fsetxattr(file, &*on_host(map, name)?, value, flags)?)
}

/// Takes an attribute away.
pub(super) fn remove_attribute(file: &File, map: &XattrMap, name: &CStr) -> io::Result<()> {
    Ok(rustix::fs::fremovexattr(file, &*on_host(map, name)?)?)
}

/// The value of an attribute, or how long it is if `size` is 0.
pub(super) fn attribute(
    file: &File,
    map: &XattrMap,
    name: &CStr,
    size: u32,
) -> io::Result<GetxattrReply> {
    // As the library has it: what the guest is not to know, it has not.
    let name = on_host(map, name).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Errno::NODATA.into(),
        _ => error,
    })?;
    let mut value = vec![0; size as usize];
    let len = rustix::fs::fgetxattr(file, &*name, &mut value[..])?;
    value.truncate(len);
    Ok(if size == 0 { GetxattrReply::Count(count(len)) } else { GetxattrReply::Value(value) })
}

/// The names of the attributes as the guest knows them, or how much room they take at most if
/// `size` is 0.
pub(super) fn attribute_names(
    file: &File,
    map: &XattrMap,
    size: u32,
) -> io::Result<ListxattrReply> {
    let mut names = vec![0; size as usize];
    let len = rustix::fs::flistxattr(file, &mut names[..])?;
    if size == 0 {
        return Ok(ListxattrReply::Count(count(len)));
    }
    names.truncate(len);
    Ok(ListxattrReply::Names(map.map_server_xattrlist(names).map_err(io::Error::other)?))
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
