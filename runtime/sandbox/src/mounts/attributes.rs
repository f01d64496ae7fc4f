//! Attributes of whole mount trees, mount_setattr(2).

#![allow(unsafe_code, reason = "mount_setattr is in no safe library")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `struct mount_attr` of linux/mount.h, version 0.
#[repr(C)]
#[derive(Debug, Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_NOSUID` of linux/mount.h.
const NOSUID: u64 = 2;

/// `MOUNT_ATTR_NODEV` of linux/mount.h.
const NODEV: u64 = 4;

/// `MOUNT_ATTR_RDONLY` of linux/mount.h.
const RDONLY: u64 = 1;

/// `MOUNT_ATTR_IDMAP` of linux/mount.h.
const IDMAP: u64 = 0x0010_0000;

/// Shows the files of a mount that is attached nowhere, and with `recursive` of all below it,
/// with the owners that `namespace` maps theirs to.
///
/// # Errors
/// What the kernel answered; `EINVAL` for a filesystem that can't.
pub(super) fn map_ids(
    mount: BorrowedFd<'_>,
    recursive: bool,
    namespace: BorrowedFd<'_>,
) -> io::Result<()> {
    let userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    let attributes = MountAttr { set: IDMAP, userns_fd, ..MountAttr::default() };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the attributes are live and of the stated size.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes device nodes and set-user-id programs out of the mount at `root` and of all below it,
/// and with `read_only` the right to write.
///
/// # Errors
/// What the kernel answered; `ENOSYS` before Linux 5.12.
pub(super) fn restrict(root: &Path, read_only: bool) -> io::Result<()> {
    let path = CString::new(root.as_os_str().as_bytes())?;
    let set = NODEV | NOSUID | if read_only { RDONLY } else { 0 };
    let attributes = MountAttr { set, ..MountAttr::default() };
    // SAFETY: path and attributes are live, and the size is that of the attributes.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE | libc::AT_SYMLINK_NOFOLLOW,
            std::ptr::from_ref(&attributes),
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
