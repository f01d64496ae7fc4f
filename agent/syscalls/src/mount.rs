//! mount_setattr(2), Linux 5.12: attributes of a mount that is attached nowhere yet, or of all
//! below a place.
#![allow(unsafe_code, reason = "mount_setattr is in no safe library")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::mount::{MountAttrFlags, MountPropagationFlags};

/// `struct mount_attr` of linux/mount.h, version 0.
#[repr(C)]
#[derive(Default)]
struct RawAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What to change of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountAttributes {
    /// What to set; for `MOUNT_ATTR_IDMAP` there is [`map_ids`].
    pub set: MountAttrFlags,
    /// What to clear; it happens before setting.
    pub clear: MountAttrFlags,
    /// One of private, downstream, shared and unbindable, or nothing to keep it.
    pub propagation: MountPropagationFlags,
}

impl MountAttributes {
    /// Changes nothing.
    pub const KEEP: Self = Self {
        set: MountAttrFlags::empty(),
        clear: MountAttrFlags::empty(),
        propagation: MountPropagationFlags::empty(),
    };

    /// Sets flags and changes nothing else.
    pub const fn set(set: MountAttrFlags) -> Self {
        Self { set, ..Self::KEEP }
    }

    /// Changes the propagation and nothing else.
    pub const fn propagation(propagation: MountPropagationFlags) -> Self {
        Self { propagation, ..Self::KEEP }
    }
}

impl Default for MountAttributes {
    fn default() -> Self {
        Self::KEEP
    }
}

/// Changes the mount at a descriptor, and with `recursive` all mounts below it, at once or not at
/// all.
///
/// # Errors
/// What the kernel answered: `EINVAL` if the descriptor is not the root of a mount.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &MountAttributes,
) -> io::Result<()> {
    let raw = RawAttributes {
        set: attributes.set.bits().into(),
        clear: attributes.clear.bits().into(),
        propagation: attributes.propagation.bits().into(),
        userns_fd: 0,
    };
    call(mount, recursive, &raw)
}

/// Shows the files of a mount that is attached nowhere, and with `recursive` of all below it,
/// with the owners that `namespace` maps theirs to.
///
/// # Errors
/// What the kernel answered: `EINVAL` for a filesystem that can't.
pub fn map_ids(
    mount: BorrowedFd<'_>,
    recursive: bool,
    namespace: BorrowedFd<'_>,
) -> io::Result<()> {
    let userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    let set = MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into();
    call(mount, recursive, &RawAttributes { set, userns_fd, ..RawAttributes::default() })
}

fn call(mount: BorrowedFd<'_>, recursive: bool, attributes: &RawAttributes) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the attributes are live and of the stated size.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<RawAttributes>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::mount::{FsMountFlags, FsOpenFlags, fsconfig_create, fsmount, fsopen};
    use rustix::mount::{OpenTreeFlags, open_tree};

    use super::*;

    /// Mounting needs root, as the work of all users of this module does; the tests run as it.
    #[test]
    fn a_detached_mount_becomes_read_only_and_writable_again() {
        let filesystem = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_create(filesystem.as_fd()).unwrap();
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = fsmount(filesystem.as_fd(), flags, MountAttrFlags::empty()).unwrap();
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let is_read_only = || {
            let found = rustix::fs::fstatvfs(&mount).unwrap().f_flag;
            found.contains(rustix::fs::StatVfsMountFlags::RDONLY)
        };
        set_attributes(mount.as_fd(), false, &MountAttributes::set(read_only)).unwrap();
        assert!(is_read_only());
        let writable = MountAttributes { clear: read_only, ..MountAttributes::KEEP };
        set_attributes(mount.as_fd(), true, &writable).unwrap();
        assert!(!is_read_only());
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below");
        std::fs::create_dir(&below).unwrap();
        let place = open_tree(rustix::fs::CWD, &below, OpenTreeFlags::OPEN_TREE_CLOEXEC).unwrap();
        let change = MountAttributes::set(MountAttrFlags::MOUNT_ATTR_NODEV);
        let refused = set_attributes(place.as_fd(), false, &change).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }
}
