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

/// In mounting order: parents first.
const FILESYSTEMS: [Filesystem; 9] = [
    Filesystem { target: "/proc", fstype: "proc", flags: SAFE, data: c"" },
    Filesystem { target: "/sys", fstype: "sysfs", flags: SAFE, data: c"" },
    // The kernel mounts it by itself (CONFIG_DEVTMPFS_MOUNT); then this answers EBUSY.
    Filesystem { target: "/dev", fstype: "devtmpfs", flags: MountFlags::NOSUID, data: c"mode=755" },
    Filesystem {
        target: "/dev/pts",
        fstype: "devpts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: c"mode=620,ptmxmode=666,gid=5",
    },
    Filesystem { target: "/dev/shm", fstype: "tmpfs", flags: SAFE, data: c"mode=1777" },
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
    Filesystem { target: "/sys/fs/bpf", fstype: "bpf", flags: SAFE, data: c"mode=700" },
];

/// Mounts everything, skipping what the kernel has mounted already or does not have (bpf).
pub(super) fn mount_all() -> Result<(), BootError> {
    for filesystem in &FILESYSTEMS {
        mount_one(filesystem)
            .map_err(|source| BootError::Mount { target: filesystem.target, source })?;
    }
    Ok(())
}

fn mount_one(filesystem: &Filesystem) -> io::Result<()> {
    if filesystem.target.starts_with("/dev/") {
        make_directory(filesystem.target)?;
    }
    let Filesystem { target, fstype, flags, data } = filesystem;
    match mount(*fstype, *target, *fstype, *flags, *data) {
        Err(Errno::BUSY) => Ok(()),
        Err(Errno::NODEV | Errno::NOENT) if *fstype == "bpf" => Ok(()),
        other => Ok(other?),
    }
}

fn make_directory(path: &str) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
