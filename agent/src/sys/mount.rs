//! Attributes of detached mounts, mount_setattr(2).
#![allow(unsafe_code, reason = "mount_setattr is in no safe library")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct mount_attr` of linux/mount.h, version 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MountAttributes {
    /// `MOUNT_ATTR_…` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_…` to clear.
    pub(crate) clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to keep.
    pub(crate) propagation: u64,
    /// User namespace of `MOUNT_ATTR_IDMAP`.
    pub(crate) userns_fd: u64,
}

/// Changes a mount, and with `recursive` all mounts below it, at once or not at all.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &MountAttributes,
) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and attributes are live and of the stated size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    super::check(result).map(drop)
}
