//! The guest's own mounts. Its root is a read-only image with empty directories for them.

use std::io;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::BootError;

struct Filesystem {
    target: &'static str,
    fstype: &'static str,
    flags: MountFlags,
    data: &'static std::ffi::CStr,
}

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// In mounting order: parents first. Containers have pseudo-terminals, shared memory and message
/// queues of their own; the guest itself needs none.
const FILESYSTEMS: [Filesystem; 6] = [
    Filesystem { target: "/proc", fstype: "proc", flags: SAFE, data: c"" },
    Filesystem { target: "/sys", fstype: "sysfs", flags: SAFE, data: c"" },
    // The kernel mounts it by itself (CONFIG_DEVTMPFS_MOUNT); then this answers EBUSY.
    Filesystem { target: "/dev", fstype: "devtmpfs", flags: MountFlags::NOSUID, data: c"mode=755" },
    Filesystem {
        target: "/run",
        fstype: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: c"mode=755",
    },
    Filesystem {
        target: "/tmp",
        fstype: "tmpfs",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: c"mode=1777",
    },
    Filesystem {
        target: crate::cgroup::ROOT,
        fstype: "cgroup2",
        flags: SAFE,
        data: c"nsdelegate,memory_recursiveprot",
    },
];

/// Mounts everything, skipping what the kernel has mounted already.
pub(super) fn mount_all() -> Result<(), BootError> {
    for filesystem in &FILESYSTEMS {
        mount_one(filesystem)
            .map_err(|source| BootError::Mount { target: filesystem.target, source })?;
    }
    Ok(())
}

fn mount_one(filesystem: &Filesystem) -> io::Result<()> {
    let Filesystem { target, fstype, flags, data } = filesystem;
    match mount(*fstype, *target, *fstype, *flags, *data) {
        Err(Errno::BUSY) => Ok(()),
        other => Ok(other?),
    }
}
