//! The host's OCI configuration → the one that the agent carries out (pure). What only has
//! a meaning on the host is taken out, with a note for the log; bind sources are collected for
//! the shared directory and rewritten. The JSON stays untyped, so that what this code does not
//! know reaches the agent unchanged.

mod mounts;
pub mod namespaces;

use serde_json::{Map, Value};

pub use self::mounts::{Bind, ReadOnly};
use crate::{ContainerId, Error};

/// A configuration ready for the guest, and what the host has to do for it.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestSpec {
    /// OCI configuration with all paths valid in the guest.
    pub spec: Value,
    /// Host paths that the container sees, each rewritten to a place in the shared directory.
    pub binds: Vec<Bind>,
    /// What was left out, in plain words.
    pub notes: Vec<String>,
}

/// Character devices that are the same in every Linux: memory devices (major 1), terminals (5),
/// and `/dev/net/tun` and `/dev/fuse` (10).
const COMMON_DEVICES: [u64; 3] = [1, 5, 10];

/// Translates the configuration of `container`, whose root filesystem is at `root` in the guest.
/// Its namespaces are the guest's already, by [`namespaces::translate`].
///
/// # Errors
/// [`Error::Invalid`] when it is not an OCI configuration or asks for what can't be given.
pub fn translate(host: Value, container: &ContainerId, root: &str) -> Result<GuestSpec, Error> {
    let Value::Object(mut spec) = host else {
        return Err(Error::Invalid("config.json is not a JSON object".into()));
    };
    let mut notes = Vec::new();
    let Some(Value::Object(process)) = spec.get_mut("process") else {
        return Err(Error::Invalid("config.json has no process".into()));
    };
    translate_process(process, &mut notes);
    let oci_root = spec.entry("root").or_insert_with(|| Value::Object(Map::new()));
    if let Some(oci_root) = oci_root.as_object_mut() {
        oci_root.insert("path".into(), root.into());
    }
    if spec.remove("hooks").is_some_and(|hooks| has_content(&hooks)) {
        notes.push("hooks are not run".into());
    }
    let binds = mounts::translate(&mut spec, container)?;
    if let Some(Value::Object(linux)) = spec.get_mut("linux") {
        translate_linux(linux, container, &mut notes)?;
    }
    // Without a namespace of its own the container has the pod's name, which the guest has already.
    if !makes_namespace(&spec, "uts") {
        spec.remove("hostname");
        spec.remove("domainname");
    }
    Ok(GuestSpec { spec: Value::Object(spec), binds, notes })
}

/// Translates the `process` object of an additional process; returns notes.
///
/// # Errors
/// [`Error::Invalid`] when it is not a JSON object.
pub fn translate_exec(process: &mut Value) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    match process {
        Value::Object(process) => translate_process(process, &mut notes),
        _ => return Err(Error::Invalid("the process to execute is not a JSON object".into())),
    }
    Ok(notes)
}

fn makes_namespace(spec: &Map<String, Value>, kind: &str) -> bool {
    let namespaces = spec.get("linux").and_then(|linux| linux.get("namespaces"));
    let mut namespaces = namespaces.and_then(Value::as_array).into_iter().flatten();
    namespaces.any(|namespace| {
        namespace.get("type").is_some_and(|found| found == kind)
            && !namespace.get("path").is_some_and(has_content)
    })
}

fn has_content(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => map.values().any(has_content),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

fn translate_process(process: &mut Map<String, Value>, notes: &mut Vec<String>) {
    for (key, name) in [("apparmorProfile", "AppArmor profile"), ("selinuxLabel", "SELinux label")]
    {
        if let Some(value) = process.remove(key).filter(has_content) {
            notes.push(format!("{name} {value} is not applied in the guest"));
        }
    }
}

fn translate_linux(
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

#[cfg(test)]
mod tests;
