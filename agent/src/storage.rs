//! Disks in windows. The host puts a device into a virtio-mmio window. Then the window's driver is
//! bound, the disk appears, and it is mounted. All of that is undone in the reverse order.

mod filesystem;

use std::fs::File;

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use crate::error::{Error, Result};
use crate::init::mount_detached;
pub(crate) use crate::window::Window;

pub(crate) use filesystem::{Directory, Filesystem, mount, unmount};

/// The class of devices that disks are.
const CLASS: &str = "block";

/// Where and how a disk is mounted; an empty point for not at all.
#[derive(Debug)]
pub(crate) struct Mounting {
    /// Absolute path, created if missing.
    pub(crate) point: String,
    /// Filesystem type.
    pub(crate) fstype: String,
    /// Options of mount(8).
    pub(crate) options: Vec<String>,
    /// Made below the point.
    pub(crate) directories: Vec<Directory>,
}

/// A disk of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Its node.
    pub(crate) node: String,
    /// Its major and minor number.
    pub(crate) numbers: (u32, u32),
}

impl Disk {
    fn of(name: &str) -> Result<Self> {
        let node = format!("/dev/{name}");
        let found = rustix::fs::stat(&node).map_err(Error::io(format!("look at {node}")))?;
        let numbers = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
        Ok(Self { node, numbers })
    }
}

/// Makes the disk of a window appear and mounts it if asked to.
///
/// # Errors
/// There is no disk in the window, or it cannot be mounted; the window is free again then.
pub(crate) fn attach(window: Window, mounting: &Mounting) -> Result<Disk> {
    if window.device(CLASS).is_some() {
        return Err(Error::Exists(window.name()));
    }
    let disk = window.bind(CLASS)?;
    let mounted = Disk::of(&disk).and_then(|disk| mount_disk(&disk.node, mounting).map(|()| disk));
    mounted.inspect_err(|_| {
        if let Err(error) = window.unbind() {
            log::warn!("{error}");
        }
    })
}

/// Unmounts, flushes and unbinds what [`attach`] made.
///
/// # Errors
/// The mount is in use, something could not be written, or the window is not bound.
pub(crate) fn detach(window: Window, mount_point: &str) -> Result<()> {
    if !mount_point.is_empty() {
        // Unmounting writes everything, too, but tells nobody what it could not write.
        flush(mount_point).map_err(Error::io(format!("flush {mount_point}")))?;
        rustix::mount::unmount(mount_point, UnmountFlags::NOFOLLOW)
            .map_err(Error::io(format!("unmount {mount_point}")))?;
    }
    if let Some(disk) = window.device(CLASS) {
        let device = format!("/dev/{disk}");
        File::open(&device)
            .and_then(|device| device.sync_all())
            .map_err(Error::io(format!("flush {device}")))?;
    }
    window.unbind()
}

/// Writes to its disk what the filesystem at `point` still has in memory.
fn flush(point: &str) -> rustix::io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::syncfs(rustix::fs::open(point, flags, Mode::empty())?)
}

fn mount_disk(device: &str, mounting: &Mounting) -> Result<()> {
    if mounting.point.is_empty() {
        return Ok(());
    }
    let doing = || format!("mount {device} at {}", mounting.point);
    if !mounting.point.starts_with('/') {
        return Err(Error::Invalid(format!("{}: mount point is not absolute", doing())));
    }
    std::fs::create_dir_all(&mounting.point).map_err(Error::io(doing()))?;
    mount_detached(&mounting.fstype, device, &mounting.options, &mounting.point)
        .map_err(Error::io(doing()))?;
    filesystem::make_directories(&mounting.point, &mounting.directories).inspect_err(|_| {
        // The window is about to be empty.
        let _busy = rustix::mount::unmount(&*mounting.point, UnmountFlags::DETACH);
    })
}
