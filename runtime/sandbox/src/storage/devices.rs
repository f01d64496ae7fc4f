//! Block devices of a configuration (`linux.devices`, what Kubernetes makes of `volumeDevices`).
//! They become disks of the machine. Device node and device cgroup get the guest's numbers.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use api::Error;
use machine::Live;
use machine::guest::GuestMount;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::disk::{self, Disk};
use crate::spec::Document;

/// The device nodes of a configuration.
const DEVICES: &str = "/linux/devices";

/// Its rules of who may use which device; later ones count more.
const RULES: &str = "/linux/resources/devices";

/// A block device of the host that a container is to have.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Index in `linux.devices`.
    device: usize,
    numbers: (u32, u32),
    /// Where the container has it.
    path: PathBuf,
    /// What it may do with it, as in the device cgroup: of `rwm`.
    access: String,
}

/// Attaches the block devices of `spec`, and rewrites it. What was attached before a failure is
/// returned as well.
pub(super) async fn attach(
    spec: &mut Document,
    notes: &mut Vec<String>,
    live: &Live,
) -> (Vec<Disk>, Result<(), Error>) {
    let mut disks = Vec::new();
    let outcome = attach_all(spec, notes, live, &mut disks).await;
    (disks, outcome)
}

async fn attach_all(
    spec: &mut Document,
    notes: &mut Vec<String>,
    live: &Live,
    disks: &mut Vec<Disk>,
) -> Result<(), Error> {
    let rules: Vec<LinuxDeviceCgroup> = spec.list(RULES)?;
    let everything = rules.iter().any(allows_everything);
    let all_wanted = wanted(&spec.list(DEVICES)?, &rules);
    let mut left_out = Vec::new();
    forget_rules(spec)?;
    for wanted in all_wanted {
        let node = node(wanted.numbers)?;
        // A privileged container is listed every disk of the host; it would lose them all.
        if everything && node == wanted.path {
            let path = wanted.path.display();
            notes.push(format!("disk {path} of the host is not passed to the guest"));
            left_out.push(wanted.device);
            continue;
        }
        let read_only = !wanted.access.contains('w');
        let file = disk::open(&node, read_only).await?;
        check(&file, wanted.numbers).map_err(|reason| {
            Error::Invalid(format!("block device {}: {reason}", node.display()))
        })?;
        let disk = Disk::attach(file, read_only, &GuestMount::default(), live).await?;
        let numbers = disk.guest.numbers;
        disks.push(disk);
        renumber(spec, &wanted, numbers)?;
    }
    spec.retain(DEVICES, |index, _: &mut LinuxDevice| Ok(!left_out.contains(&index)))
}

/// The block devices of a configuration (pure).
fn wanted(devices: &[LinuxDevice], rules: &[LinuxDeviceCgroup]) -> Vec<Wanted> {
    let wanted = |(index, device): (usize, &LinuxDevice)| {
        let block = device.typ() == LinuxDeviceType::B;
        let numbers = block.then(|| numbers(device.major(), device.minor()))??;
        let rule = rules.iter().find(|rule| allowed_disk(rule) == Some(numbers));
        let access = rule.and_then(|rule| rule.access().clone());
        let access = access.unwrap_or_else(|| "rwm".to_owned());
        Some(Wanted { device: index, numbers, path: device.path().clone(), access })
    };
    devices.iter().enumerate().filter_map(wanted).collect()
}

fn numbers(major: i64, minor: i64) -> Option<(u32, u32)> {
    Some((u32::try_from(major).ok()?, u32::try_from(minor).ok()?))
}

/// The numbers of the one block device that a rule allows.
fn allowed_disk(rule: &LinuxDeviceCgroup) -> Option<(u32, u32)> {
    let one = rule.allow() && rule.typ() == Some(LinuxDeviceType::B);
    one.then(|| numbers(rule.major()?, rule.minor()?))?
}

/// Whether a rule allows all devices, as a privileged container's.
fn allows_everything(rule: &LinuxDeviceCgroup) -> bool {
    let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
    let every_type = rule.typ().is_none_or(|kind| kind == LinuxDeviceType::A);
    rule.allow() && every_type && any(rule.major()) && any(rule.minor())
}

/// Takes out the rules that allow single block devices: the host's numbers may be those of
/// another disk in the guest.
fn forget_rules(spec: &mut Document) -> Result<(), Error> {
    spec.retain(RULES, |_, rule| Ok(allowed_disk(rule).is_none()))
}

/// Writes the guest's numbers into the device's entry, and a rule that allows it.
fn renumber(spec: &mut Document, wanted: &Wanted, (major, minor): (u32, u32)) -> Result<(), Error> {
    let (major, minor) = (major.into(), minor.into());
    spec.edit(&format!("{DEVICES}/{}", wanted.device), |device: &mut LinuxDevice| {
        device.set_major(major).set_minor(minor);
    })?;
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(LinuxDeviceType::B)).set_access(Some(wanted.access.clone()));
    rule.set_major(Some(major)).set_minor(Some(minor));
    spec.push(RULES, &rule)
}

/// The host's node of a block device. The configuration names only its numbers.
fn node((major, minor): (u32, u32)) -> Result<PathBuf, Error> {
    let path = format!("/sys/dev/block/{major}:{minor}/uevent");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Error::Invalid(format!("the host has no block device {major}:{minor} ({path}: {error})"))
    })?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let name = name.ok_or_else(|| Error::Failed(format!("{path} has no device name")))?;
    Ok(PathBuf::from("/dev").join(name))
}

/// Whether an open file is the block device of these numbers.
fn check(file: &File, numbers: (u32, u32)) -> Result<(), String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let found = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    if metadata.file_type().is_block_device() && found == numbers {
        Ok(())
    } else {
        Err(format!("is not the device {}:{}", numbers.0, numbers.1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Document {
        Document::from(json!({"linux": {
            "devices": [
                {"type": "c", "path": "/dev/null", "major": 1, "minor": 3},
                {"type": "b", "path": "/dev/data", "major": 8, "minor": 16},
            ],
            "resources": {"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "b", "major": 8, "minor": 16, "access": "r"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            ]},
        }}))
    }

    fn found(spec: &Document) -> Vec<Wanted> {
        wanted(&spec.list(DEVICES).unwrap(), &spec.list(RULES).unwrap())
    }

    #[test]
    fn disks_get_the_guests_numbers_and_rules() {
        let mut spec = spec();
        let found = found(&spec);
        let expected =
            Wanted { device: 1, numbers: (8, 16), path: "/dev/data".into(), access: "r".into() };
        assert_eq!(found, [expected]);
        forget_rules(&mut spec).unwrap();
        renumber(&mut spec, &found[0], (254, 32)).unwrap();
        assert_eq!(spec.json(DEVICES)[1]["major"], 254);
        assert_eq!(spec.json(DEVICES)[0]["major"], 1);
        let expected = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "b", "major": 254, "minor": 32, "access": "r"},
        ]);
        assert_eq!(*spec.json(RULES), expected);
    }

    #[test]
    fn rule_is_added_where_there_are_none() {
        let mut spec = Document::from(json!({"linux": {"devices": [
            {"type": "b", "path": "/dev/data", "major": 8, "minor": 16},
        ]}}));
        let found = found(&spec);
        assert_eq!(found[0].access, "rwm");
        renumber(&mut spec, &found[0], (254, 32)).unwrap();
        assert_eq!(spec.json(RULES)[0]["major"], 254);
    }

    #[test]
    fn privileged_containers_are_known_by_their_rule() {
        let everything = |spec: &Document| spec.list(RULES).unwrap().iter().any(allows_everything);
        assert!(!everything(&spec()));
        for rule in [
            json!({"allow": true, "access": "rwm"}),
            json!({"allow": true, "type": "a"}),
            json!({"allow": true, "type": "", "major": null, "minor": -1}),
        ] {
            let spec = json!({"linux": {"resources": {"devices": [rule]}}});
            assert!(everything(&spec.into()), "{rule}");
        }
    }

    #[test]
    fn device_that_does_not_exist_is_named() {
        let error = node((4000, 9)).unwrap_err().to_string();
        assert!(error.contains("4000:9"), "{error}");
    }
}
