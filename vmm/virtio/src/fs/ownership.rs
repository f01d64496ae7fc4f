//! Who owns what the guest creates.
//!
//! The library creates as the user and group that a request names, so that the host's kernel
//! gives new files the right owner. But a request does not name supplementary groups, and by
//! these alone many users may write: a Kubernetes volume with `fsGroup` belongs to a group that
//! is supplementary for the container's user. The guest's kernel, which knows the groups, has
//! already checked the permissions (virtio-fs always mounts with `default_permissions`), and a
//! guest that wants to go round them is root in the share anyway. So what is refused to the
//! user is created as root and then handed over.

use std::io;

use fuse_backend_rs::abi::fuse_abi::SetattrValid;
use fuse_backend_rs::api::filesystem::{Context, Entry, FileSystem};
use rustix::io::Errno;

use super::share::Share;

/// Mode bit of a directory: what is created in it gets its group.
const SET_GROUP: u32 = 0o2000;

/// Mode bits that tell the type of a file, and the type of a regular one.
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// Mode bits of a file that are lost when its owner changes.
const SET_IDS: u32 = 0o6000;

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
        if !denied || context.uid == 0 {
            return Err(refused);
        }
        let root = Context { uid: 0, gid: 0, ..*context };
        match create(&root) {
            Ok((entry, rest)) => Ok((self.hand_over(context, parent, entry)?, rest)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(refused),
            Err(error) => Err(error),
        }
    }

    fn hand_over(&self, context: &Context, parent: u64, mut entry: Entry) -> io::Result<Entry> {
        let (folder, _) = self.passthrough.getattr(context, parent, None)?;
        let mut attributes = entry.attr;
        attributes.st_uid = context.uid;
        let mut valid = SetattrValid::UID;
        if folder.st_mode & SET_GROUP == 0 {
            attributes.st_gid = context.gid;
            valid |= SetattrValid::GID;
        }
        (entry.attr, _) =
            self.passthrough.setattr(context, entry.inode, attributes, None, valid)?;
        let file = attributes.st_mode & FILE_TYPE == REGULAR;
        if file && attributes.st_mode & SET_IDS != 0 {
            let valid = SetattrValid::MODE;
            (entry.attr, _) =
                self.passthrough.setattr(context, entry.inode, attributes, None, valid)?;
        }
        Ok(entry)
    }
}
