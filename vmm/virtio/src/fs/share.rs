//! The shared directory as the file server sees it: the library's passthrough file system,
//! with what a hostile guest or a fast one needs changed.
//!
//! Everything is the library's own work except four things:
//! - what a user may create by a supplementary group only (see [`ownership`](super::ownership));
//! - the protocol options that make transfers larger than a page possible, which the library
//!   leaves to a layer of its own that would also replace all inode numbers;
//! - sizes of answers that the guest chooses are capped;
//! - `..` is not looked up. Only NFS servers inside the guest would ask, and the share's root
//!   is not the root of the process.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{
    CreateIn, FsOptions, OpenOptions, SetattrValid, stat64, statvfs64,
};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, GetxattrReply, ListxattrReply, ZeroCopyReader,
    ZeroCopyWriter,
};
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};
use rustix::fs::OFlags;

/// How long the guest may believe what it knows of names and attributes. What kubelet changes
/// in a volume (a symbolic link that is replaced) shall be seen within a second, so half of
/// one: a name that is in use costs at most two questions a second more than without a limit.
const VALID: Duration = Duration::from_millis(500);

/// Largest answer to a request for extended attributes, the kernel's own limit
/// (`XATTR_SIZE_MAX`). The attack: the library allocates what the guest asks for, up to 4 GiB.
const MAX_XATTR: u32 = 64 << 10;

/// Largest part of a directory in one answer, for the same reason; the protocol's usual limit.
const MAX_READDIR: u32 = 1 << 20;

/// The passthrough file system over a directory.
pub(super) struct Share {
    pub(super) passthrough: PassthroughFs,
}

impl Share {
    /// Serves the directory at `root`. Looks at `/proc/self` now and, with `xattr`, later.
    pub(super) fn new(root: &Path, xattr: bool) -> io::Result<Self> {
        let root_dir = root.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let passthrough = PassthroughFs::new(Config {
            root_dir,
            xattr,
            attr_timeout: VALID,
            entry_timeout: VALID,
            // Close-to-open consistency: what the host changes is seen on the next open.
            cache_policy: CachePolicy::Auto,
            writeback: false,
            do_import: true,
            no_open: false,
            no_opendir: false,
            killpriv_v2: true,
            inode_file_handles: false,
            allow_direct_io: true,
            ..Config::default()
        })?;
        // Done again on every INIT; here so that a missing directory is found at once.
        passthrough.import()?;
        Ok(Self { passthrough })
    }

    /// Makes an entry below `parent` as the user of `context`, or where only a supplementary
    /// group lets it, as root.
    fn make(
        &self,
        context: &Context,
        parent: u64,
        make: impl Fn(&Context) -> io::Result<Entry>,
    ) -> io::Result<Entry> {
        let error = match make(context) {
            Err(error) => error,
            made => return made,
        };
        let entry = |context: &Context| Ok((make(context)?, ()));
        self.create_as_root(context, parent, error, entry).map(|(entry, ())| entry)
    }
}

/// Options that only concern the transport of requests, which this server can all do.
fn transport_options() -> FsOptions {
    FsOptions::ASYNC_READ
        | FsOptions::ASYNC_DIO
        | FsOptions::ATOMIC_O_TRUNC
        | FsOptions::AUTO_INVAL_DATA
        | FsOptions::BIG_WRITES
        | FsOptions::MAX_PAGES
        | FsOptions::PARALLEL_DIROPS
}

/// What the creation of a file gives: the file, its handle, and how to treat it.
type Created = (Entry, Option<u64>, OpenOptions, Option<u32>);

/// Hands calls to the passthrough file system as they are.
macro_rules! pass {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty;)+) => {$(
        fn $name(&self, context: &Context, $($argument: $kind),*) -> $result {
            self.passthrough.$name(context, $($argument),*)
        }
    )+};
}

impl FileSystem for Share {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        Ok(self.passthrough.init(capable)? | capable & transport_options())
    }

    fn destroy(&self) {
        self.passthrough.destroy();
    }

    fn lookup(&self, context: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        if name == c".." {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error()));
        }
        self.passthrough.lookup(context, parent, name)
    }

    fn getxattr(
        &self,
        context: &Context,
        inode: u64,
        name: &CStr,
        size: u32,
    ) -> io::Result<GetxattrReply> {
        self.passthrough.getxattr(context, inode, name, size.min(MAX_XATTR))
    }

    fn listxattr(&self, context: &Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        self.passthrough.listxattr(context, inode, size.min(MAX_XATTR))
    }

    fn readdir(
        &self,
        context: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.passthrough.readdir(context, inode, handle, size.min(MAX_READDIR), offset, add)
    }

    fn readdirplus(
        &self,
        context: &Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.passthrough.readdirplus(context, inode, handle, size.min(MAX_READDIR), offset, add)
    }

    fn symlink(
        &self,
        context: &Context,
        target: &CStr,
        parent: u64,
        name: &CStr,
    ) -> io::Result<Entry> {
        let make = |context: &Context| self.passthrough.symlink(context, target, parent, name);
        self.make(context, parent, make)
    }

    fn mknod(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        rdev: u32,
        umask: u32,
    ) -> io::Result<Entry> {
        let make =
            |context: &Context| self.passthrough.mknod(context, parent, name, mode, rdev, umask);
        self.make(context, parent, make)
    }

    fn mkdir(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        umask: u32,
    ) -> io::Result<Entry> {
        let make = |context: &Context| self.passthrough.mkdir(context, parent, name, mode, umask);
        self.make(context, parent, make)
    }

    fn create(
        &self,
        context: &Context,
        parent: u64,
        name: &CStr,
        arguments: CreateIn,
    ) -> io::Result<Created> {
        let error = match self.passthrough.create(context, parent, name, arguments) {
            Err(error) => error,
            done => return done,
        };
        // Exclusive, because a file that is already there must not get another owner.
        let new = CreateIn { flags: arguments.flags | OFlags::EXCL.bits(), ..arguments };
        let (entry, (handle, options, backing)) =
            self.create_as_root(context, parent, error, |context| {
                let (entry, handle, options, backing) =
                    self.passthrough.create(context, parent, name, new)?;
                Ok((entry, (handle, options, backing)))
            })?;
        Ok((entry, handle, options, backing))
    }

    pass! {
        fn forget(inode: u64, count: u64) -> ();
        fn batch_forget(requests: Vec<(u64, u64)>) -> ();
        fn getattr(inode: u64, handle: Option<u64>) -> io::Result<(stat64, Duration)>;
        fn setattr(inode: u64, attributes: stat64, handle: Option<u64>, valid: SetattrValid)
            -> io::Result<(stat64, Duration)>;
        fn readlink(inode: u64) -> io::Result<Vec<u8>>;
        fn unlink(parent: u64, name: &CStr) -> io::Result<()>;
        fn rmdir(parent: u64, name: &CStr) -> io::Result<()>;
        fn rename(from: u64, old: &CStr, to: u64, new: &CStr, flags: u32) -> io::Result<()>;
        fn link(inode: u64, parent: u64, name: &CStr) -> io::Result<Entry>;
        fn open(inode: u64, flags: u32, fuse_flags: u32)
            -> io::Result<(Option<u64>, OpenOptions, Option<u32>)>;
        fn read(inode: u64, handle: u64, to: &mut dyn ZeroCopyWriter, size: u32, offset: u64,
            lock_owner: Option<u64>, flags: u32) -> io::Result<usize>;
        fn write(inode: u64, handle: u64, from: &mut dyn ZeroCopyReader, size: u32, offset: u64,
            lock_owner: Option<u64>, delayed: bool, flags: u32, fuse_flags: u32)
            -> io::Result<usize>;
        fn flush(inode: u64, handle: u64, lock_owner: u64) -> io::Result<()>;
        fn fsync(inode: u64, data_only: bool, handle: u64) -> io::Result<()>;
        fn fallocate(inode: u64, handle: u64, mode: u32, offset: u64, length: u64)
            -> io::Result<()>;
        fn release(inode: u64, flags: u32, handle: u64, flush: bool, flock: bool,
            lock_owner: Option<u64>) -> io::Result<()>;
        fn statfs(inode: u64) -> io::Result<statvfs64>;
        fn setxattr(inode: u64, name: &CStr, value: &[u8], flags: u32) -> io::Result<()>;
        fn removexattr(inode: u64, name: &CStr) -> io::Result<()>;
        fn opendir(inode: u64, flags: u32) -> io::Result<(Option<u64>, OpenOptions)>;
        fn fsyncdir(inode: u64, data_only: bool, handle: u64) -> io::Result<()>;
        fn releasedir(inode: u64, flags: u32, handle: u64) -> io::Result<()>;
        fn access(inode: u64, mask: u32) -> io::Result<()>;
        fn lseek(inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64>;
    }
}
