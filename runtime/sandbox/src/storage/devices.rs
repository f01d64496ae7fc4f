//! Block devices of a configuration (`linux.devices`, what Kubernetes makes of `volumeDevices`):
//! they become disks of the machine; device node and device cgroup get the guest's numbers.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use api::Error;
use machine::Live;
use machine::guest::GuestMount;
use serde_json::{Value, json};

use super::disk::{self, Disk};

/// A block device of the host that a container is to have.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Index in `linux.devices`.
    device: usize,
    numbers: (u32, u32),
    /// Where the container has it.
    path: String,
    /// What it may do with it, as in the device cgroup: of `rwm`.
    access: String,
}

/// Attaches the block devices of `spec`, and rewrites it. What was attached before a failure is
/// returned as well.
pub(super) async fn attach(
    spec: &mut Value,
    notes: &mut Vec<String>,
    live: &Live,
) -> (Vec<Disk>, Result<(), Error>) {
    let mut disks = Vec::new();
    let outcome = attach_all(spec, notes, live, &mut disks).await;
    (disks, outcome)
}

async fn attach_all(
    spec: &mut Value,
    notes: &mut Vec<String>,
    live: &Live,
    disks: &mut Vec<Disk>,
) -> Result<(), Error> {
    let all_wanted = wanted(spec);
    let everything = allows_everything(spec);
    let mut left_out = Vec::new();
    forget_rules(spec);
    for wanted in all_wanted {
        let node = node(wanted.numbers)?;
        // A privileged container is listed every disk of the host; it would lose them all.
        if everything && node == Path::new(&wanted.path) {
            notes.push(format!("disk {} of the host is not passed to the guest", wanted.path));
            left_out.push(wanted.device);
            continue;
        }
        let read_only = !wanted.access.contains('w');
        let file = disk::open(&node, read_only).await?;
        check(&file, wanted.numbers).map_err(|reason| {
            Error::Invalid(format!("block device {}: {reason}", node.display()))
        })?;
        let disk = Disk::attach(file, read_only, &GuestMount::default(), live).await?;
        renumber(spec, &wanted, disk.guest.numbers);
        disks.push(disk);
    }
    if let Some(devices) = devices_mut(spec) {
        let mut index = 0..;
        devices.retain(|_| index.next().is_none_or(|index| !left_out.contains(&index)));
    }
    Ok(())
}

/// The block devices of a configuration (pure).
fn wanted(spec: &Value) -> Vec<Wanted> {
    let devices = spec.pointer("/linux/devices").and_then(Value::as_array);
    let wanted = |(index, device): (usize, &Value)| {
        let numbers = block_numbers(device)?;
        let path = device.get("path")?.as_str()?.to_owned();
        let rule = rules(spec).find(|rule| allows(rule) && block_numbers(rule) == Some(numbers));
        let access = rule.and_then(|rule| rule.get("access")?.as_str()).unwrap_or("rwm");
        Some(Wanted { device: index, numbers, path, access: access.to_owned() })
    };
    devices.into_iter().flatten().enumerate().filter_map(wanted).collect()
}

/// Major and minor number of an entry about one block device.
fn block_numbers(entry: &Value) -> Option<(u32, u32)> {
    let number = |key: &str| u32::try_from(entry.get(key)?.as_u64()?).ok();
    let block = entry.get("type").is_some_and(|kind| kind == "b");
    block.then(|| Some((number("major")?, number("minor")?)))?
}

fn rules(spec: &Value) -> impl Iterator<Item = &Value> {
    let rules = spec.pointer("/linux/resources/devices").and_then(Value::as_array);
    rules.into_iter().flatten()
}

fn allows(rule: &Value) -> bool {
    rule.get("allow").is_some_and(|allow| allow == true)
}

/// Whether the container may use all devices, as a privileged one.
fn allows_everything(spec: &Value) -> bool {
    let everything = |rule: &Value| {
        let any = |key: &str| rule.get(key).and_then(Value::as_i64).is_none_or(|n| n < 0);
        let kind = rule.get("type").and_then(Value::as_str).unwrap_or("a");
        allows(rule) && matches!(kind, "" | "a") && any("major") && any("minor")
    };
    rules(spec).any(everything)
}

/// Takes out the rules that allow single block devices: the host's numbers may be those of
/// another disk in the guest.
fn forget_rules(spec: &mut Value) {
    let rules = spec.pointer_mut("/linux/resources/devices").and_then(Value::as_array_mut);
    if let Some(rules) = rules {
        rules.retain(|rule| !(allows(rule) && block_numbers(rule).is_some()));
    }
}

fn devices_mut(spec: &mut Value) -> Option<&mut Vec<Value>> {
    spec.pointer_mut("/linux/devices")?.as_array_mut()
}

/// Writes the guest's numbers into the device's entry, and a rule that allows it.
fn renumber(spec: &mut Value, wanted: &Wanted, (major, minor): (u32, u32)) {
    if let Some(entry) = devices_mut(spec).and_then(|devices| devices.get_mut(wanted.device)) {
        entry["major"] = major.into();
        entry["minor"] = minor.into();
    }
    let rule = json!({
        "allow": true, "type": "b", "major": major, "minor": minor, "access": wanted.access,
    });
    let resources = &mut spec["linux"]["resources"];
    match resources.get_mut("devices").and_then(Value::as_array_mut) {
        Some(rules) => rules.push(rule),
        None => resources["devices"] = json!([rule]),
    }
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
    use super::*;

    fn spec() -> Value {
        json!({"linux": {
            "devices": [
                {"type": "c", "path": "/dev/null", "major": 1, "minor": 3},
                {"type": "b", "path": "/dev/data", "major": 8, "minor": 16},
            ],
            "resources": {"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "b", "major": 8, "minor": 16, "access": "r"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            ]},
        }})
    }

    #[test]
    fn disks_get_the_guests_numbers_and_rules() {
        let mut spec = spec();
        let found = wanted(&spec);
        let expected =
            Wanted { device: 1, numbers: (8, 16), path: "/dev/data".into(), access: "r".into() };
        assert_eq!(found, [expected]);
        forget_rules(&mut spec);
        renumber(&mut spec, &found[0], (254, 32));
        assert_eq!(spec["linux"]["devices"][1]["major"], 254);
        assert_eq!(spec["linux"]["devices"][0]["major"], 1);
        let rules = spec["linux"]["resources"]["devices"].as_array().unwrap();
        assert_eq!(rules.len(), 3);
        assert!(rules.iter().all(|rule| rule.get("major") != Some(&json!(8))), "{rules:?}");
        assert_eq!((&rules[2]["minor"], &rules[2]["access"]), (&json!(32), &json!("r")));
    }

    #[test]
    fn rule_is_added_where_there_are_none() {
        let mut spec = json!({"linux": {"devices": [
            {"type": "b", "path": "/dev/data", "major": 8, "minor": 16},
        ]}});
        let found = wanted(&spec);
        assert_eq!(found[0].access, "rwm");
        renumber(&mut spec, &found[0], (254, 32));
        assert_eq!(spec["linux"]["resources"]["devices"][0]["major"], 254);
    }

    #[test]
    fn privileged_containers_are_known_by_their_rule() {
        assert!(!allows_everything(&spec()));
        for rule in [json!({"allow": true, "access": "rwm"}), json!({"allow": true, "type": "a"})] {
            let spec = json!({"linux": {"resources": {"devices": [rule]}}});
            assert!(allows_everything(&spec), "{spec}");
        }
    }

    #[test]
    fn device_that_does_not_exist_is_named() {
        let error = node((4000, 9)).unwrap_err().to_string();
        assert!(error.contains("4000:9"), "{error}");
    }
}
