//! Disks in windows: the driver of a virtio-mmio window is bound when the host has put a device
//! there, the disk appears, and is mounted; and all that backwards.

mod filesystem;
mod uevent;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::UnmountFlags;

use crate::error::{Error, Result};
use crate::init::mount_detached;

pub(crate) use filesystem::{Directory, Filesystem, mount, unmount};

/// Number of windows; DSDT devices LNRO0005:00 to :3f.
const WINDOWS: u32 = 64;

/// How long a bound device may take to become a disk.
const PATIENCE: Duration = Duration::from_secs(10);

const DRIVER: &str = "/sys/bus/platform/drivers/virtio-mmio";
const DEVICES: &str = "/sys/bus/platform/devices";

/// A virtio-mmio window by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window(u32);

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

impl Window {
    /// Checks an index.
    ///
    /// # Errors
    /// There is no such window.
    pub(crate) fn new(index: u32) -> Result<Self> {
        if index < WINDOWS {
            Ok(Self(index))
        } else {
            Err(Error::Invalid(format!("window {index}: not 0 to {}", WINDOWS - 1)))
        }
    }

    /// The name of its platform device.
    fn name(self) -> String {
        format!("LNRO0005:{:02x}", self.0)
    }

    fn directory(self) -> PathBuf {
        Path::new(DEVICES).join(self.name())
    }

    /// The name of the disk behind it, for instance `vdb`.
    fn disk(self) -> Option<String> {
        let below = |path: &Path, prefix: &str| {
            std::fs::read_dir(path).ok()?.flatten().find_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.starts_with(prefix).then_some(name)
            })
        };
        let directory = self.directory();
        let virtio = below(&directory, "virtio")?;
        below(&directory.join(virtio).join("block"), "")
    }
}

/// Makes the disk of a window appear and mounts it if asked to.
///
/// # Errors
/// There is no disk in the window, or it cannot be mounted; the window is free again then.
pub(crate) fn attach(window: Window, mounting: &Mounting) -> Result<Disk> {
    if window.disk().is_some() {
        return Err(Error::Exists(window.name()));
    }
    let uevents = uevent::Uevents::listen().map_err(Error::io("listen for devices"))?;
    write_driver("bind", window).map_err(Error::io(format!("bind {}", window.name())))?;
    let result = wait_for_disk(window, &uevents)
        .and_then(|name| Disk::of(&name))
        .and_then(|disk| mount_disk(&disk.node, mounting).map(|()| disk));
    if result.is_err()
        && let Err(error) = write_driver("unbind", window)
    {
        log::warn!("unbind {}: {error}", window.name());
    }
    result
}

/// Unmounts, flushes and unbinds what [`attach`] made.
///
/// # Errors
/// The mount is in use, or the window is not bound.
pub(crate) fn detach(window: Window, mount_point: &str) -> Result<()> {
    if !mount_point.is_empty() {
        rustix::mount::unmount(mount_point, UnmountFlags::NOFOLLOW)
            .map_err(Error::io(format!("unmount {mount_point}")))?;
    }
    if let Some(disk) = window.disk() {
        let device = format!("/dev/{disk}");
        File::open(&device)
            .and_then(|device| device.sync_all())
            .map_err(Error::io(format!("flush {device}")))?;
    }
    write_driver("unbind", window).map_err(Error::io(format!("unbind {}", window.name())))
}

fn write_driver(file: &str, window: Window) -> io::Result<()> {
    std::fs::write(Path::new(DRIVER).join(file), window.name())
}

/// The disk is mostly there when the binding returns; if not, the kernel tells when.
fn wait_for_disk(window: Window, uevents: &uevent::Uevents) -> Result<String> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(disk) = window.disk() {
            return Ok(disk);
        }
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Err(Error::State("no disk appeared in the window"));
        }
        uevents.wait(left).map_err(Error::io("wait for a device"))?;
    }
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

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn windows_are_named_as_acpi_does() {
        assert_eq!(Window::new(0).unwrap().name(), "LNRO0005:00");
        assert_eq!(Window::new(63).unwrap().name(), "LNRO0005:3f");
        assert!(Window::new(64).is_err());
    }
}
