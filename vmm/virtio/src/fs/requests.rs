//! What each request of the protocol does in the share: the library's own work, except for what
//! [`share`](super::share) lists.

use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use virtiofsd::filesystem::{
    Context, Entry, Extensions, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions,
    SetattrValid, SetxattrFlags, ZeroCopyReader, ZeroCopyWriter,
};
use virtiofsd::fuse::{Attr, ROOT_ID, SetattrIn};
use virtiofsd::oslib::WritevFlags;

use super::listing::Names;
use super::nameless::{self, NOT_BELIEVED};
use super::privilege::{as_user, killing_set_ids, loses_set_ids};
use super::share::Share;

/// Largest answer to a request for extended attributes, the kernel's own limit
/// (`XATTR_SIZE_MAX`). The attack: the library allocates what the guest asks for.
const MAX_XATTR: u32 = 64 << 10;

/// Most bytes copied between two files by one request: the thread has others to serve.
const MAX_COPY: u64 = 16 << 20;

/// Refuses names that mean more than one entry of a directory. `..` would only be asked for by
/// NFS servers in the guest.
fn plain(name: &CStr) -> io::Result<()> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL.into()),
        name if name.contains(&b'/') => Err(Errno::INVAL.into()),
        _ => Ok(()),
    }
}

/// Refuses positions that the host's kernel does not know either.
fn within(offset: u64, len: u32) -> io::Result<()> {
    let end = offset.checked_add(u64::from(len)).and_then(|end| i64::try_from(end).ok());
    end.map(drop).ok_or_else(|| Errno::INVAL.into())
}

/// What the creation of a file gives: the file, its handle, and how to treat it.
type Created = (Entry, Option<u64>, OpenOptions);

/// Hands calls to the passthrough file system as they are, except for the names, and for files that
/// have none.
macro_rules! pass {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(; $entry:ident)*) -> $result:ty
        $({ $inode:ident without a name: |$share:ident, $file:ident| $answer:expr })?;)+) => {$(
        fn $name(&self, context: Context, $($argument: $kind),*) -> $result {
            $(plain($entry)?;)*
            $(if let Some($file) = self.nameless.get($inode) {
                let $share = self;
                return $answer;
            })?
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
        self.nameless.clear();
        Ok(self.passthrough.init(capable)? | FsOptions::HANDLE_KILLPRIV_V2)
    }

    fn destroy(&self) {
        self.nameless.clear();
        self.passthrough.destroy();
    }

    fn forget(&self, context: Context, inode: u64, count: u64) {
        if !self.nameless.forget(inode, count) {
            self.passthrough.forget(context, inode, count);
        }
    }

    fn batch_forget(&self, context: Context, mut requests: Vec<(u64, u64)>) {
        requests.retain(|(inode, count)| !self.nameless.forget(*inode, *count));
        self.passthrough.batch_forget(context, requests);
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
        if let Some(file) = self.nameless.get(inode) {
            return Ok((nameless::attributes(&file)?, NOT_BELIEVED));
        }
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
        if self.nameless.get(inode).is_some() {
            return Ok((None, OpenOptions::empty()));
        }
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
        mut to: W,
        size: u32,
        offset: u64,
        owner: Option<u64>,
        flags: u32,
    ) -> io::Result<usize> {
        within(offset, size)?;
        if let Some(file) = self.nameless.get(inode) {
            return to.read_from_file_at(&file, size as usize, offset, None);
        }
        self.passthrough.read(context, inode, handle, to, size, offset, owner, flags)
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
        within(offset, size)?;
        if let Some(file) = self.nameless.get(inode) {
            let append = !delayed && OFlags::from_bits_retain(flags).contains(OFlags::APPEND);
            let how = append.then_some(WritevFlags::RWF_APPEND);
            return killing_set_ids(kill, || {
                from.write_to_file_at(&file, size as usize, offset, how)
            });
        }
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
        if let Some(file) = self.nameless.get(inode) {
            let change = || nameless::change(&file, &attributes, valid);
            killing_set_ids(loses_set_ids(valid), change)?;
            return Ok((nameless::attributes(&file)?, NOT_BELIEVED));
        }
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
            let Some(file) = self.nameless.get(inode) else {
                return self.passthrough.fallocate(context, inode, handle, mode, offset, length);
            };
            let mode = FallocateFlags::from_bits_retain(mode);
            Ok(rustix::fs::fallocate(file, mode, offset, length)?)
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
        let size = size.min(MAX_XATTR);
        if let Some(file) = self.nameless.get(inode) {
            return nameless::attribute(&file, &self.attributes, name, size);
        }
        self.passthrough.getxattr(context, inode, name, size)
    }

    fn listxattr(&self, context: Context, inode: u64, size: u32) -> io::Result<ListxattrReply> {
        let size = size.min(MAX_XATTR);
        if let Some(file) = self.nameless.get(inode) {
            return nameless::attribute_names(&file, &self.attributes, size);
        }
        self.passthrough.listxattr(context, inode, size)
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
        let (fs, len) = (&self.passthrough, len.min(MAX_COPY));
        fs.copyfilerange(context, inode, handle, offset, to, to_handle, to_offset, len, flags)
    }

    fn link(&self, context: Context, inode: u64, parent: u64, name: &CStr) -> io::Result<Entry> {
        plain(name)?;
        if let Some(file) = self.nameless.get(inode) {
            nameless::name(&self.passthrough, &context, &file, (parent, name))?;
            return self.lookup(context, parent, name);
        }
        self.passthrough.link(context, inode, parent, name)
    }

    fn statfs(&self, context: Context, inode: u64) -> io::Result<libc::statvfs64> {
        // That of the share stands for one that only the host knows the place of.
        let nameless = self.nameless.get(inode).is_some();
        self.passthrough.statfs(context, if nameless { ROOT_ID } else { inode })
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
        fn readlink(inode: u64) -> io::Result<Vec<u8>>;
        fn unlink(parent: u64, name: &CStr; name) -> io::Result<()>;
        fn rmdir(parent: u64, name: &CStr; name) -> io::Result<()>;
        fn rename(from: u64, old: &CStr, to: u64, new: &CStr, flags: u32; old; new)
            -> io::Result<()>;
        fn flush(inode: u64, handle: u64, owner: u64) -> io::Result<()>
            { inode without a name: |_share, _file| Ok(()) };
        fn fsync(inode: u64, data_only: bool, handle: u64) -> io::Result<()>
            { inode without a name: |_share, file| nameless::sync(&file, data_only) };
        fn release(inode: u64, flags: u32, handle: u64, flush: bool, flock: bool,
            owner: Option<u64>) -> io::Result<()> { inode without a name: |_share, _file| Ok(()) };
        fn setxattr(inode: u64, name: &CStr, value: &[u8], flags: u32, extra: SetxattrFlags)
            -> io::Result<()> { inode without a name: |share, file|
                nameless::set_attribute(&file, &share.attributes, name, (value, flags)) };
        fn removexattr(inode: u64, name: &CStr) -> io::Result<()>
            { inode without a name: |share, file|
                nameless::remove_attribute(&file, &share.attributes, name) };
        fn opendir(inode: u64, flags: u32) -> io::Result<(Option<u64>, OpenOptions)>;
        fn fsyncdir(inode: u64, data_only: bool, handle: u64) -> io::Result<()>;
        fn releasedir(inode: u64, flags: u32, handle: u64) -> io::Result<()>;
        fn access(inode: u64, mask: u32) -> io::Result<()>;
        fn lseek(inode: u64, handle: u64, offset: u64, whence: u32) -> io::Result<u64>
            { inode without a name: |_share, file| nameless::seek(&file, offset, whence) };
    }
}
