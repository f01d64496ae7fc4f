//! `linux` of a configuration (pure).

use api::{ContainerId, Error};
use serde_json::{Map, Value};

use super::has_content;

/// Character devices that are the same in every Linux: memory devices (major 1), terminals (5),
/// and `/dev/net/tun` and `/dev/fuse` (10).
const COMMON_DEVICES: [u64; 3] = [1, 5, 10];

/// Takes out of `linux` what has a meaning on the host only.
///
/// # Errors
/// [`Error::Invalid`] when it asks for what can't be given.
pub(super) fn translate(
    linux: &mut Map<String, Value>,
    container: &ContainerId,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    if linux.get("seccomp").and_then(|s| s.get("listenerPath")).is_some_and(has_content) {
        let reason = "seccomp notification (listenerPath) can't reach from a guest to the host";
        return Err(Error::Invalid(reason.into()));
    }
    linux.insert("cgroupsPath".into(), format!("/cuddy/{container}").into());
    for (key, name) in [("mountLabel", "SELinux mount label"), ("intelRdt", "Intel RDT class")] {
        if linux.remove(key).is_some_and(|value| has_content(&value)) {
            notes.push(format!("{name} is not applied in the guest"));
        }
    }
    if let Some(devices) = linux.get_mut("devices").and_then(Value::as_array_mut) {
        devices.retain(|device| keep_device(device, notes));
    }
    if let Some(Value::Object(resources)) = linux.get_mut("resources") {
        translate_resources(resources, notes);
    }
    Ok(())
}

fn keep_device(device: &Value, notes: &mut Vec<String>) -> bool {
    let major = device.get("major").and_then(Value::as_u64);
    let kind = device.get("type").and_then(Value::as_str).unwrap_or_default();
    let keep = match kind {
        // Disks are attached, and get the guest's numbers.
        "p" | "b" => true,
        "c" | "u" => major.is_some_and(|major| COMMON_DEVICES.contains(&major)),
        _ => false,
    };
    if !keep {
        let path = device.get("path").and_then(Value::as_str).unwrap_or_default();
        notes.push(format!("device {path:?} of the host is not passed to the guest"));
    }
    keep
}

/// Takes out of the resources what names the host's CPUs, memory nodes and devices.
pub fn translate_resources(resources: &mut Map<String, Value>, notes: &mut Vec<String>) {
    if let Some(Value::Object(cpu)) = resources.get_mut("cpu") {
        for key in ["cpus", "mems"] {
            if cpu.remove(key).is_some_and(|value| has_content(&value)) {
                notes.push(format!("cpuset {key} of the host is not applied in the guest"));
            }
        }
    }
    if let Some(Value::Object(unified)) = resources.get_mut("unified") {
        let of_cpus = unified.keys().filter(|key| key.starts_with("cpuset.")).cloned();
        for key in of_cpus.collect::<Vec<_>>() {
            unified.remove(&key);
            notes.push(format!("unified {key} of the host is not applied in the guest"));
        }
    }
    for key in ["network", "rdma"] {
        if resources.remove(key).is_some_and(|value| has_content(&value)) {
            notes.push(format!("resource {key} is not applied in the guest"));
        }
    }
    if let Some(Value::Object(io)) = resources.get_mut("blockIO") {
        let of_devices = io.keys().filter(|key| key.contains("Device")).cloned();
        for key in of_devices.collect::<Vec<_>>() {
            if io.remove(&key).is_some_and(|value| has_content(&value)) {
                notes.push(format!("{key} names devices of the host and is not applied"));
            }
        }
    }
}
