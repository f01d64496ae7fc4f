//! `linux.devices` and the devices and links that every container has (config-linux.md,
//! "Default Devices").

use std::path::Path;

use rustix::fs::{FileType, Mode, chmodat, chownat, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use super::mount_options::parse;
use super::mounts::{attach, clone_mount};
use super::rooted::{Create, Rooted};
use crate::control::Failure;
use crate::oci::Spec;
use crate::oci::linux::Device;

/// Name below /dev, major and minor number of character devices.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links below /dev and what they point to.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Creates all of them, unless the container's /dev is somebody else's (a bind mount).
pub(super) fn create_all(spec: &Spec, rootfs: &Rooted) -> Result<(), Failure> {
    let foreign = spec.mounts.iter().any(|mount| {
        mount.destination == Path::new("/dev") && parse(&mount.options).bind.is_some()
    });
    if foreign {
        return Ok(());
    }
    for (name, major, minor) in DEFAULTS {
        let path = Path::new("/dev").join(name);
        let kind = "c".to_owned();
        create(rootfs, &Device { path, kind, major, minor, ..Device::default() })?;
    }
    for device in &spec.linux.devices {
        create(rootfs, device)?;
    }
    for (name, target) in LINKS {
        let failed = |error| Failure::guest(format_args!("link /dev/{name}: {error}"));
        let path = Path::new("/dev").join(name);
        let (parent, name) = rootfs.parent(&path).map_err(failed)?;
        match symlinkat(target, &parent, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn create(rootfs: &Rooted, device: &Device) -> Result<(), Failure> {
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => {
            return Err(Failure::configuration(format_args!(
                "device {:?}: unknown type {other:?}",
                device.path
            )));
        }
    };
    make_node(rootfs, device, kind).map_err(|error| {
        Failure::configuration(format_args!("create device {:?}: {error}", device.path))
    })
}

fn make_node(rootfs: &Rooted, device: &Device, kind: FileType) -> rustix::io::Result<()> {
    let (parent, name) = rootfs.parent(&device.path)?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(&parent, name, kind, mode, makedev(device.major, device.minor)) {
        // As with runc, what the image or an earlier entry has there stays.
        Err(Errno::EXIST) => return Ok(()),
        // No user namespace may make devices; the guest's node is as good.
        Err(Errno::PERM) => return bind_node(rootfs, device),
        other => other?,
    }
    chmodat(&parent, name, mode, rustix::fs::AtFlags::empty())?;
    let owner = rustix::fs::Uid::from_raw(device.uid.unwrap_or(0));
    let group = rustix::fs::Gid::from_raw(device.gid.unwrap_or(0));
    chownat(&parent, name, Some(owner), Some(group), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
}

fn bind_node(rootfs: &Rooted, device: &Device) -> rustix::io::Result<()> {
    let place = rootfs.find_or_create(&device.path, Create::File)?;
    attach(&clone_mount(&device.path, false)?, &place)
}
