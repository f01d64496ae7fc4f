//! Who owns what the guest creates.
//!
//! The library creates as the user and group that a request names. It also takes the supplementary
//! group by which the directory's mode lets the user in. So the host's kernel gives new files the
//! right owner. But a user may be let in by another group, or by an ACL of the directory. The
//! guest's kernel knows all groups, and has already checked the permissions: virtio-fs always
//! mounts with `default_permissions`. A guest that wants to go round them is root in the share
//! anyway. So what is refused to the user is created as root and then handed over.

use std::io;

use rustix::io::Errno;
use virtiofsd::filesystem::{Context, Entry, FileSystem, SetattrValid};
use virtiofsd::fuse::SetattrIn;
use virtiofsd::soft_idmap::{GuestGid, GuestUid, Id};

use super::privilege::{SET_GROUP, SET_IDS};
use super::share::Share;

/// Mode bits that tell the type of a file, and the type of a regular one.
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

impl Share {
    /// Creates with `create` as root if `refused` says that the user may not, and makes the
    /// user the owner. What else `create` returns is handed through.
    ///
    /// # Errors
    /// `refused` if it is about something else, or if the file has appeared meanwhile; what
    /// `create` fails with as root.
    pub(super) fn create_as_root<T>(
        &self,
        context: &Context,
        parent: u64,
        refused: io::Error,
        create: impl FnOnce(&Context) -> io::Result<(Entry, T)>,
    ) -> io::Result<(Entry, T)> {
        let denied = refused.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
        if !denied || context.uid.is_root() {
            return Err(refused);
        }
        let root = Context { uid: GuestUid::from(0), gid: GuestGid::from(0), ..*context };
        match create(&root) {
            Ok((entry, rest)) => Ok((self.hand_over(context, parent, entry)?, rest)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(refused),
            Err(error) => Err(error),
        }
    }

    fn hand_over(&self, context: &Context, parent: u64, mut entry: Entry) -> io::Result<Entry> {
        let (folder, _) = self.passthrough.getattr(*context, parent, None)?;
        let mode = entry.attr.mode;
        let wanted = SetattrIn { uid: context.uid, gid: context.gid, mode, ..SetattrIn::default() };
        let mut valid = SetattrValid::UID;
        if folder.mode & SET_GROUP == 0 {
            valid |= SetattrValid::GID;
        }
        let set = |valid| self.passthrough.setattr(*context, entry.inode, wanted, None, valid);
        let (mut attributes, _) = set(valid)?;
        if mode & FILE_TYPE == REGULAR && mode & SET_IDS != 0 {
            (attributes, _) = set(SetattrValid::MODE)?;
        }
        entry.attr = attributes;
        Ok(entry)
    }
}
