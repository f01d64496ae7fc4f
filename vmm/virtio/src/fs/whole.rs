//! The share with files that have no name: requests about one of those are served here, all
//! others by the [`Share`].

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, XattrFlags};
use rustix::io::Errno;
use virtiofsd::filesystem::{
    Context, Entry, Extensions, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions,
    SetattrValid, SetxattrFlags, ZeroCopyReader, ZeroCopyWriter,
};
use virtiofsd::fuse::{Attr, CreateIn, ROOT_ID, SetattrIn};
use virtiofsd::oslib::WritevFlags;

use super::listing::Names;
use super::nameless::{self, Nameless, plain_attribute};
use super::privilege::{killing_set_ids, loses_set_ids};
use super::share::{Created, MAX_XATTR, Share, plain, within};

/// All files of the share. A copy is the same share.
#[derive(Clone)]
pub(super) struct Whole {
    share: Arc<Share>,
    nameless: Arc<Nameless>,
}

impl Whole {
    /// The share and, as yet, no file without a name.
    pub(super) fn new(share: Share) -> Self {
        Self { share: Arc::new(share), nameless: Arc::default() }
    }

    /// Makes a file without a name in the directory `parent`.
    ///
    /// # Errors
    /// The host's; ENFILE if the guest has too many.
    pub(super) fn make_nameless(
        &self,
        context: &Context,
        parent: u64,
        asked: CreateIn,
    ) -> io::Result<Entry> {
        self.nameless.make(&self.share.passthrough, context, parent, asked)
    }
}

/// Hands requests on; those with a block are about one file, which is this one if it has no name.
macro_rules! dispatch {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty $(= |$file:ident| $own:expr)?;)+) => {$(
        fn $name(&self, context: Context, $($argument: $kind),*) -> $result {
            dispatch!(@own self, ($($argument),*) $(= |$file| $own)?);
            self.share.$name(context, $($argument),*)
        }
    )+};
    (@own $self:ident, ($($argument:ident),*)) => {};
    (@own $self:ident, ($inode:ident $(, $argument:ident)*) = |$file:ident| $own:expr) => {
        if let Some($file) = $self.nameless.get($inode) {
            $(let _ = &$argument;)*
            let $file: &File = &$file;
            return $own;
        }
    };
}

fn ended(result: Result<(), Errno>) -> io::Result<()> {
    Ok(result?)
}

impl FileSystem for Whole {
    type Inode = u64;
    type Handle = u64;
    type DirIter = Names;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        self.nameless.clear();
        self.share.init(capable)
    }

    fn destroy(&self) {
        self.nameless.clear();
        self.share.destroy();
    }

    fn forget(&self, context: Context, inode: u64, count: u64) {
        if !self.nameless.forget(inode, count) {
            self.share.forget(context, inode, count);
        }
    }

    fn batch_forget(&self, context: Context, mut requests: Vec<(u64, u64)>) {
        requests.retain(|(inode, count)| !self.nameless.forget(*inode, *count));
        self.share.batch_forget(context, requests);
    }

    fn read<W: ZeroCopyWriter>(
        &self,
        context: Context,
        inode: u64,
        handle: u64,
        mut to: W,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        flags: u32,
    ) -> io::Result<usize> {
        let Some(file) = self.nameless.get(inode) else {
            return self.share.read(context, inode, handle, to, size, offset, owner, flags);
        };
        within(offset, size)?;
        to.read_from_file_at(&file, size as usize, offset, None)
    }

    fn write<R: ZeroCopyReader>(
        &self,
        context: Context,
        inode: u64,
        handle: u64,
        mut from: R,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        delayed: bool,
        kill: bool,
        flags: u32,
    ) -> io::Result<usize> {
        let Some(file) = self.nameless.get(inode) else {
            let share = &self.share;
            return share
                .write(context, inode, handle, from, size, offset, owner, delayed, kill, flags);
        };
        within(offset, size)?;
        let append = !delayed && OFlags::from_bits_retain(flags).contains(OFlags::APPEND);
        let how = append.then_some(WritevFlags::RWF_APPEND);
        killing_set_ids(kill, || from.write_to_file_at(&file, size as usize, offset, how))
    }

    fn link(&self, context: Context, inode: u64, parent: u64, name: &CStr) -> io::Result<Entry> {
        if let Some(file) = self.nameless.get(inode) {
            plain(name)?;
            nameless::name(&self.share.passthrough, &context, &file, (parent, name))?;
            return self.share.lookup(context, parent, name);
        }
        self.share.link(context, inode, parent, name)
    }

    fn copyfilerange(
        &self,
        context: Context,
        inode: u64,
        handle: u64,
        offset: u64,
        to: u64,
        to_handle: u64,
        to_offset: u64,
        len: u64,
        flags: u64,
    ) -> io::Result<usize> {
        if self.nameless.get(inode).is_some() || self.nameless.get(to).is_some() {
            // The guest's kernel copies itself.
            return Err(Errno::OPNOTSUPP.into());
        }
        let share = &self.share;
        share.copyfilerange(context, inode, handle, offset, to, to_handle, to_offset, len, flags)
    }

    fn syncfs(&self, context: Context, inode: u64) -> io::Result<()> {
        self.share.syncfs(context, inode)
    }

    fn statfs(&self, context: Context, inode: u64) -> io::Result<libc::statvfs64> {
        // That of the share stands for one that only the host knows the place of.
        let known = self.nameless.get(inode).is_none();
        self.share.statfs(context, if known { inode } else { ROOT_ID })
    }

    dispatch! {
        fn getattr(inode: u64, handle: Option<u64>) -> io::Result<(Attr, Duration)>
            = |file| Ok((nameless::attributes(file)?, nameless::NOT_BELIEVED));
        fn setattr(inode: u64, to: SetattrIn, handle: Option<u64>, valid: SetattrValid)
            -> io::Result<(Attr, Duration)>
            = |file| {
                killing_set_ids(loses_set_ids(valid), || nameless::change(file, &to, valid))?;
                Ok((nameless::attributes(file)?, nameless::NOT_BELIEVED))
            };
        fn open(inode: u64, kill: bool, flags: u32) -> io::Result<(Option<u64>, OpenOptions)>
            = |_file| Ok((None, OpenOptions::empty()));
        fn flush(inode: u64, handle: u64, owner: u64) -> io::Result<()> = |_file| Ok(());
        fn release(inode: u64, flags: u32, handle: u64, flush: bool, flock: bool,
            owner: Option<u64>) -> io::Result<()> = |_file| Ok(());
        fn fsync(inode: u64, data_only: bool, handle: u64) -> io::Result<()>
            = |file| if data_only { file.sync_data() } else { file.sync_all() };
        fn fallocate(inode: u64, handle: u64, mode: u32, offset: u64, length: u64)
            -> io::Result<()>
            = |file| {
                let mode = FallocateFlags::from_bits_retain(mode);
                killing_set_ids(true, || {
                    ended(rustix::fs::fallocate(file, mode, offset, length))
                })
            };
        fn lseek(inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64>
            = |file| match whence {
                3 => Ok(rustix::fs::seek(file, SeekFrom::Data(offset))?),
                4 => Ok(rustix::fs::seek(file, SeekFrom::Hole(offset))?),
                _ => Err(Errno::INVAL.into()),
            };
        fn setxattr(inode: u64, name: &CStr, value: &[u8], flags: u32, extra: SetxattrFlags)
            -> io::Result<()>
            = |file| {
                plain_attribute(name)?;
                let flags = XattrFlags::from_bits_retain(flags);
                ended(rustix::fs::fsetxattr(file, name, value, flags))
            };
        fn getxattr(inode: u64, name: &CStr, size: u32) -> io::Result<GetxattrReply>
            = |file| {
                plain_attribute(name)?;
                let mut value = vec![0; size.min(MAX_XATTR) as usize];
                let len = rustix::fs::fgetxattr(file, name, &mut value[..])?;
                value.truncate(len);
                let count = u32::try_from(len).unwrap_or(u32::MAX);
                Ok(if size == 0 { GetxattrReply::Count(count) } else { GetxattrReply::Value(value) })
            };
        fn listxattr(inode: u64, size: u32) -> io::Result<ListxattrReply>
            = |file| {
                let mut names = vec![0; size.min(MAX_XATTR) as usize];
                let len = rustix::fs::flistxattr(file, &mut names[..])?;
                names.truncate(len);
                let count = u32::try_from(len).unwrap_or(u32::MAX);
                Ok(if size == 0 { ListxattrReply::Count(count) } else { ListxattrReply::Names(names) })
            };
        fn removexattr(inode: u64, name: &CStr) -> io::Result<()>
            = |file| {
                plain_attribute(name)?;
                ended(rustix::fs::fremovexattr(file, name))
            };
        fn lookup(parent: u64, name: &CStr) -> io::Result<Entry>;
        fn readlink(inode: u64) -> io::Result<Vec<u8>>;
        fn unlink(parent: u64, name: &CStr) -> io::Result<()>;
        fn rmdir(parent: u64, name: &CStr) -> io::Result<()>;
        fn rename(from: u64, old: &CStr, to: u64, new: &CStr, flags: u32) -> io::Result<()>;
        fn create(parent: u64, name: &CStr, mode: u32, kill: bool, flags: u32, umask: u32,
            extensions: Extensions) -> io::Result<Created>;
        fn symlink(target: &CStr, parent: u64, name: &CStr, extensions: Extensions)
            -> io::Result<Entry>;
        fn mknod(parent: u64, name: &CStr, mode: u32, device: u32, umask: u32,
            extensions: Extensions) -> io::Result<Entry>;
        fn mkdir(parent: u64, name: &CStr, mode: u32, umask: u32, extensions: Extensions)
            -> io::Result<Entry>;
        fn opendir(inode: u64, flags: u32) -> io::Result<(Option<u64>, OpenOptions)>;
        fn readdir(inode: u64, handle: u64, size: u32, offset: u64) -> io::Result<Names>;
        fn fsyncdir(inode: u64, data_only: bool, handle: u64) -> io::Result<()>;
        fn releasedir(inode: u64, flags: u32, handle: u64) -> io::Result<()>;
        fn access(inode: u64, mask: u32) -> io::Result<()>;
    }
}
