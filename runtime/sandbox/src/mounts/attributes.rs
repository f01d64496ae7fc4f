//! Attributes of whole mount trees.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use syscalls::mount::{MountAttributes, set_attributes};

/// Takes device nodes and set-user-id programs out of the mount at `root` and of all below it,
/// and with `read_only` the right to write.
///
/// # Errors
/// What the kernel answered; `ENOSYS` before Linux 5.12.
pub(super) fn restrict(root: &Path, read_only: bool) -> io::Result<()> {
    let mut set = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    set_attributes(root.as_fd(), true, &MountAttributes::set(set))
}
