//! `linux.devices` and the devices and links that every container has (config-linux.md,
//! "Default Devices").

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, chmodat, chownat, makedev, mknodat, statat, symlinkat};
use rustix::io::Errno;

use super::detached::{attach, clone_mount};
use super::mount_options::options_of;
use super::rooted::{Create, Rooted};
use crate::control::Failure;
use crate::oci::linux::Device;
use crate::oci::{NamespaceType, Spec};

/// Name below /dev, major and minor number of character devices.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Numbers of /dev/loop-control.
const LOOP_CONTROL: (u32, u32) = (10, 237);

/// Loop devices that most hosts have (`CONFIG_BLK_DEV_LOOP_MIN_COUNT`).
const LOOPS: u32 = 8;

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
    let foreign = spec
        .mounts
        .iter()
        .any(|mount| mount.destination() == Path::new("/dev") && options_of(mount).bind.is_some());
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
    make_loops(spec, rootfs)?;
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

/// Who may have loop devices made (a privileged container) finds the nodes of the first ones, as on
/// a host, where they are there before anybody asks. The kernel makes a device when it is opened.
fn make_loops(spec: &Spec, rootfs: &Rooted) -> Result<(), Failure> {
    let is_control =
        |device: &Device| device.kind == "c" && (device.major, device.minor) == LOOP_CONTROL;
    // No user namespace may make devices, and the guest has no node of them to show.
    let mapped = spec.linux.namespace(NamespaceType::User).is_some();
    if mapped || !spec.linux.devices.iter().any(is_control) {
        return Ok(());
    }
    (0..LOOPS).try_for_each(|minor| {
        let path = PathBuf::from(format!("/dev/loop{minor}"));
        let file_mode = Some(0o660);
        let kind = "b".to_owned();
        create(rootfs, &Device { path, kind, major: 7, minor, file_mode, ..Device::default() })
    })
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
    make_node(rootfs, device, kind).map_err(|reason| {
        Failure::configuration(format_args!("create device {:?}: {reason}", device.path))
    })
}

fn make_node(rootfs: &Rooted, device: &Device, kind: FileType) -> Result<(), String> {
    let failed = |error: Errno| error.to_string();
    let (parent, name) = rootfs.parent(&device.path).map_err(failed)?;
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    match mknodat(&parent, name, kind, mode, makedev(device.major, device.minor)) {
        // As with runc, what the image or an earlier entry has there stays.
        Err(Errno::EXIST) => return Ok(()),
        // No user namespace may make devices; the guest's node is as good.
        Err(Errno::PERM) => return bind_node(rootfs, device, kind),
        other => other.map_err(failed)?,
    }
    chmodat(&parent, name, mode, AtFlags::empty()).map_err(failed)?;
    let owner = rustix::fs::Uid::from_raw(device.uid.unwrap_or(0));
    let group = rustix::fs::Gid::from_raw(device.gid.unwrap_or(0));
    chownat(&parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
}

/// Shows the guest's own node of a device. It is found by number: the guest may have another
/// device at the path where the container wants this one.
fn bind_node(rootfs: &Rooted, device: &Device, kind: FileType) -> Result<(), String> {
    let Device { major, minor, .. } = device;
    let unknown = |reason: &dyn std::fmt::Display| {
        format!("the guest has no node of the device {major}:{minor} to show: {reason}")
    };
    let node = node_of(kind, (*major, *minor)).map_err(|error| unknown(&error))?;
    let tree = clone_mount(&node, false).map_err(|error| unknown(&error))?;
    let found = statat(&tree, "", AtFlags::EMPTY_PATH).map_err(|error| unknown(&error))?;
    let same =
        found.st_rdev == makedev(*major, *minor) && FileType::from_raw_mode(found.st_mode) == kind;
    if !same {
        return Err(unknown(&format_args!("{} is another", node.display())));
    }
    let place = rootfs.find_or_create(&device.path, Create::File).map_err(|e| e.to_string())?;
    attach(&tree, &place).map_err(|error| error.to_string())
}

/// Where the guest has the node of a device (kernel's `Documentation/ABI/testing/sysfs-dev`).
fn node_of(kind: FileType, (major, minor): (u32, u32)) -> std::io::Result<PathBuf> {
    let class = if kind == FileType::BlockDevice { "block" } else { "char" };
    let text = std::fs::read_to_string(format!("/sys/dev/{class}/{major}:{minor}/uevent"))?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let name = name.ok_or_else(|| std::io::Error::other("it has no name"))?;
    Ok(Path::new("/dev").join(name))
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::node_of;

    #[test]
    fn nodes_are_found_by_number() {
        let node = node_of(FileType::CharacterDevice, (1, 3)).unwrap();
        assert_eq!(node, std::path::Path::new("/dev/null"));
        assert!(node_of(FileType::BlockDevice, (4000, 9)).is_err());
    }
}
