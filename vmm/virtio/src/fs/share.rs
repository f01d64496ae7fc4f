//! The shared directory as the file server sees it: the library's passthrough file system,
//! with what a hostile guest or a careful one needs changed.
//!
//! Everything is the library's own work except:
//! - names: the library hands them to the host as they are, and the share's root is not the
//!   root of the process;
//! - sizes and offsets that the guest chooses are capped: the library allocates what it is
//!   told to, and panics at offsets above 2⁶³;
//! - files whose content is not what their size says (see [`live`](super::live));
//! - listings (see [`listing`](super::listing)), what `sync` means (see
//!   [`mounts`](super::mounts)), and what a user may create by a group only (see
//!   [`ownership`](super::ownership));
//! - set-id bits, which the library clears by another library that the jail has no files for
//!   (see [`privilege`](super::privilege)).

use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use virtiofsd::filesystem::{
    Context, Entry, Extensions, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions,
    SetattrValid, SetxattrFlags, ZeroCopyReader, ZeroCopyWriter,
};
use virtiofsd::fuse::{Attr, SetattrIn};
use virtiofsd::passthrough::xattrmap::XattrMap;
use virtiofsd::passthrough::{CachePolicy, Config, NegotiationMode, PassthroughFs};

use super::FsConfig;
use super::listing::{Listing, Names};
use super::mounts::Mounts;
use super::privilege::{as_user, killing_set_ids, loses_set_ids};

/// How long the guest may believe what it knows of names and attributes. What kubelet changes
/// in a volume (a symbolic link that is replaced) shall be seen within a second, so half of
/// one: a name that is in use costs at most two questions a second more than without a limit.
pub(super) const VALID: Duration = Duration::from_millis(500);

/// Largest answer to a request for extended attributes, the kernel's own limit
/// (`XATTR_SIZE_MAX`). The attack: the library allocates what the guest asks for.
pub(super) const MAX_XATTR: u32 = 64 << 10;

/// Most bytes copied between two files by one request: the thread has others to serve.
const MAX_COPY: u64 = 16 << 20;

/// Extended attributes by other names on the host: `trusted.*`, which the guest's kernel keeps
/// to its administrators and overlay file systems need, are the users' attributes of the host,
/// of no meaning there. Those and the host's own `trusted.*` are not for the guest's users.
const ATTRIBUTES: &str = "/prefix/all/trusted./user.virtiofs./ \
    /bad/server//trusted./ /bad/client/user.virtiofs.// /ok/all///";

/// The passthrough file system over a directory.
pub(super) struct Share {
    pub(super) passthrough: PassthroughFs,
    listing: Arc<Listing>,
    mounts: Mounts,
}

impl Share {
    /// Serves the directory that `config` names. Looks at `/proc/self` now.
    pub(super) fn new(config: &FsConfig, listing: Arc<Listing>) -> io::Result<Self> {
        let root_dir = config.root.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let names = XattrMap::try_from(ATTRIBUTES).map_err(io::Error::other)?;
        let passthrough = PassthroughFs::new(Config {
            root_dir,
            xattr: true,
            xattrmap: Some(names),
            posix_acl: NegotiationMode::Auto,
            attr_timeout: VALID,
            entry_timeout: VALID,
            // Close-to-open consistency: what the host changes is seen on the next open.
            cache_policy: CachePolicy::Auto,
            allow_direct_io: true,
            // Files without a cache can be mapped nevertheless.
            allow_mmap: true,
            guest_fd_limit: config.max_files,
            ..Config::default()
        })?;
        // Done again on every INIT; here so that a missing directory is found at once.
        passthrough.open_root_node()?;
        Ok(Self { passthrough, listing, mounts: Mounts::new(&config.root)? })
    }

    /// Makes an entry below `parent` as the user of `context`, or where only a group or an ACL
    /// lets it, as root.
    fn make(
        &self,
        context: &Context,
        parent: u64,
        extensions: Extensions,
        make: impl Fn(&Context, Extensions) -> io::Result<Entry>,
    ) -> io::Result<Entry> {
        let error = match as_user(context, || make(context, extensions)) {
            Err(error) => error,
            made => return made,
        };
        let entry = |context: &Context| Ok((make(context, Extensions::default())?, ()));
        self.create_as_root(context, parent, error, entry).map(|(entry, ())| entry)
    }
}

/// Refuses names that mean more than one entry of a directory. `..` would only be asked for by
/// NFS servers in the guest.
pub(super) fn plain(name: &CStr) -> io::Result<()> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL.into()),
        name if name.contains(&b'/') => Err(Errno::INVAL.into()),
        _ => Ok(()),
    }
}

/// Refuses positions that the host's kernel does not know either.
pub(super) fn within(offset: u64, len: u32) -> io::Result<()> {
    let end = offset.checked_add(u64::from(len)).and_then(|end| i64::try_from(end).ok());
    end.map(drop).ok_or_else(|| Errno::INVAL.into())
}

/// What the creation of a file gives: the file, its handle, and how to treat it.
pub(super) type Created = (Entry, Option<u64>, OpenOptions);

/// Hands calls to the passthrough file system as they are, except for the names.
macro_rules! pass {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(; $entry:ident)*) -> $result:ty;)+) => {$(
        fn $name(&self, context: Context, $($argument: $kind),*) -> $result {
            $(plain($entry)?;)*
            self.passthrough.$name(context, $($argument),*)
        }
    )+};
}

impl FileSystem for Share {
    type Inode = u64;
    type Handle = u64;
    type DirIter = Names;

    fn init(&self, capable: FsOptions) -> io::Result<FsOptions> {
        // What the library does for guests before Linux 6.3 takes files that the jail has not.
        if !capable.contains(FsOptions::CREATE_SUPP_GROUP) {
            return Err(Errno::PROTO.into());
        }
        Ok(self.passthrough.init(capable)? | FsOptions::HANDLE_KILLPRIV_V2)
    }

    fn destroy(&self) {
        self.passthrough.destroy();
    }

    fn lookup(&self, context: Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        plain(name)?;
        match self.passthrough.lookup(context, parent, name) {
            Ok(entry) => Ok(self.named(context, entry)),
            Err(error) => self.listing.unknown().ok_or(error),
        }
    }

    fn getattr(
        &self,
        context: Context,
        inode: u64,
        handle: Option<u64>,
    ) -> io::Result<(Attr, Duration)> {
        let told = self.passthrough.getattr(context, inode, handle)?;
        Ok(self.told(context, inode, told))
    }

    fn open(
        &self,
        context: Context,
        inode: u64,
        kill: bool,
        flags: u32,
    ) -> io::Result<(Option<u64>, OpenOptions)> {
        let (handle, mut options) =
            killing_set_ids(kill, || self.passthrough.open(context, inode, kill, flags))?;
        if let Some(handle) = handle
            && self.live(&context, inode, handle)?
        {
            options |= OpenOptions::DIRECT_IO;
        }
        Ok((handle, options))
    }

    fn create(
        &self,
        context: Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        kill: bool,
        flags: u32,
        umask: u32,
        extensions: Extensions,
    ) -> io::Result<Created> {
        plain(name)?;
        let create = |context: &Context, flags, extensions| {
            let fs = &self.passthrough;
            fs.create(*context, parent, name, mode, kill, flags, umask, extensions)
        };
        let made =
            killing_set_ids(kill, || as_user(&context, || create(&context, flags, extensions)));
        let error = match made {
            Err(error) => error,
            done => return done,
        };
        // Exclusive, because a file that is already there must not get another owner.
        let flags = flags | OFlags::EXCL.bits();
        let (entry, (handle, options)) =
            self.create_as_root(&context, parent, error, |context| {
                let (entry, handle, options) = create(context, flags, Extensions::default())?;
                Ok((entry, (handle, options)))
            })?;
        Ok((entry, handle, options))
    }

    fn read<W: ZeroCopyWriter>(
        &self,
        context: Context,
        inode: u64,
        handle: u64,
        to: W,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        flags: u32,
    ) -> io::Result<usize> {
        within(offset, size)?;
        self.passthrough.read(context, inode, handle, to, size, offset, owner, flags)
    }

    fn write<R: ZeroCopyReader>(
        &self,
        context: Context,
        inode: u64,
        handle: u64,
        from: R,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        delayed: bool,
        kill: bool,
        flags: u32,
    ) -> io::Result<usize> {
        within(offset, size)?;
        killing_set_ids(kill, || {
            let fs = &self.passthrough;
            fs.write(context, inode, handle, from, size, offset, owner, delayed, kill, flags)
        })
    }

    fn setattr(
        &self,
        context: Context,
        inode: u64,
        attributes: SetattrIn,
        handle: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(Attr, Duration)> {
        killing_set_ids(loses_set_ids(valid), || {
            self.passthrough.setattr(context, inode, attributes, handle, valid)
        })
    }

    fn fallocate(
        &self,
        context: Context,
        inode: u64,
        handle: u64,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        // The request says neither whether set-id bits go nor who asks: they go.
        killing_set_ids(true, || {
            self.passthrough.fallocate(context, inode, handle, mode, offset, length)
        })
    }

    fn readdir(
        &self,
        context: Context,
        inode: u64,
        handle: u64,
        size: u32,
        offset: u64,
    ) -> io::Result<Names> {
        let size = self.listing.host_size(size);
        let names = self.passthrough.readdir(context, inode, handle, size, offset)?;
        Ok(Names::new(names, Arc::clone(&self.listing)))
    }

    fn getxattr(
        &self,
        context: Context,
        inode: u64,
        name: &CStr,
        size: u32,
    ) -> io::Result<GetxattrReply> {
        self.passthrough.getxattr(context, inode, name, size.min(MAX_XATTR))
    }

    fn listxattr(&self, context: Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        self.passthrough.listxattr(context, inode, size.min(MAX_XATTR))
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
        let (fs, len) = (&self.passthrough, len.min(MAX_COPY));
        fs.copyfilerange(context, inode, handle, offset, to, to_handle, to_offset, len, flags)
    }

    fn syncfs(&self, _context: Context, _inode: u64) -> io::Result<()> {
        self.mounts.sync()
    }

    fn symlink(
        &self,
        context: Context,
        target: &CStr,
        parent: u64,
        name: &CStr,
        extensions: Extensions,
    ) -> io::Result<Entry> {
        plain(name)?;
        self.make(&context, parent, extensions, |context, extensions| {
            self.passthrough.symlink(*context, target, parent, name, extensions)
        })
    }

    fn mknod(
        &self,
        context: Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        device: u32,
        umask: u32,
        extensions: Extensions,
    ) -> io::Result<Entry> {
        plain(name)?;
        self.make(&context, parent, extensions, |context, extensions| {
            self.passthrough.mknod(*context, parent, name, mode, device, umask, extensions)
        })
    }

    fn mkdir(
        &self,
        context: Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        umask: u32,
        extensions: Extensions,
    ) -> io::Result<Entry> {
        plain(name)?;
        self.make(&context, parent, extensions, |context, extensions| {
            self.passthrough.mkdir(*context, parent, name, mode, umask, extensions)
        })
    }

    pass! {
        fn forget(inode: u64, count: u64) -> ();
        fn batch_forget(requests: Vec<(u64, u64)>) -> ();
        fn readlink(inode: u64) -> io::Result<Vec<u8>>;
        fn unlink(parent: u64, name: &CStr; name) -> io::Result<()>;
        fn rmdir(parent: u64, name: &CStr; name) -> io::Result<()>;
        fn rename(from: u64, old: &CStr, to: u64, new: &CStr, flags: u32; old; new)
            -> io::Result<()>;
        fn link(inode: u64, parent: u64, name: &CStr; name) -> io::Result<Entry>;
        fn flush(inode: u64, handle: u64, owner: u64) -> io::Result<()>;
        fn fsync(inode: u64, data_only: bool, handle: u64) -> io::Result<()>;
        fn release(inode: u64, flags: u32, handle: u64, flush: bool, flock: bool,
            owner: Option<u64>) -> io::Result<()>;
        fn statfs(inode: u64) -> io::Result<libc::statvfs64>;
        fn setxattr(inode: u64, name: &CStr, value: &[u8], flags: u32, extra: SetxattrFlags)
            -> io::Result<()>;
        fn removexattr(inode: u64, name: &CStr) -> io::Result<()>;
        fn opendir(inode: u64, flags: u32) -> io::Result<(Option<u64>, OpenOptions)>;
        fn fsyncdir(inode: u64, data_only: bool, handle: u64) -> io::Result<()>;
        fn releasedir(inode: u64, flags: u32, handle: u64) -> io::Result<()>;
        fn access(inode: u64, mask: u32) -> io::Result<()>;
        fn lseek(inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64>;
    }
}
