//! The host's OCI configuration → the one that the agent carries out (pure). What only has
//! a meaning on the host is taken out, with a note for the log; bind sources are collected for
//! the shared directory and rewritten. The JSON stays untyped, so that what this code does not
//! know reaches the agent unchanged.

mod hooks;
mod linux;
mod mounts;
pub mod namespaces;

use serde_json::{Map, Value};

pub(crate) use self::hooks::time_to_create;
pub use self::linux::translate_resources;
pub(crate) use self::mounts::forget_ids;
use api::{ContainerId, Error};

pub use self::mounts::{Bind, ReadOnly};

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
    let mut binds = mounts::translate(&mut spec, container)?;
    binds.extend(hooks::translate(&mut spec, container));
    if let Some(Value::Object(linux)) = spec.get_mut("linux") {
        linux::translate(linux, container, &mut notes)?;
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
    // Kubernetes writes one for every container of a host with SELinux.
    if let Some(value) = process.remove("selinuxLabel").filter(has_content) {
        notes.push(format!("SELinux label {value} is not applied in the guest"));
    }
}

#[cfg(test)]
mod tests;
