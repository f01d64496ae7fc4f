//! Attributes of whole mount trees, mount_setattr(2).

#![allow(unsafe_code, reason = "mount_setattr is in no safe library")]

use std::ffi::CString;
use std::io;
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
