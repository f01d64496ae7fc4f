//! The host's OCI configuration → the one that the agent carries out (pure). Parts that only have a
//! meaning on the host are taken out, with a note for the log. Bind sources are collected for the
//! shared directory and rewritten. Parts that this code does not know reach the agent unchanged,
//! see [`document`].

pub(crate) mod document;
mod hooks;
mod linux;
mod mounts;
pub mod namespaces;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use serde_json::{Map, Value};

pub use self::document::Document;
pub(crate) use self::hooks::time_to_create;
pub(crate) use self::linux::translate_resources;
pub(crate) use self::mounts::forget_ids;
use api::{ContainerId, Error};

pub use self::mounts::{Bind, ReadOnly, SeenImage};

/// A configuration ready for the guest, and what the host has to do for it.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestSpec {
    /// OCI configuration with all paths valid in the guest.
    pub spec: Document,
    /// Host paths that the container sees, each rewritten to a place in the shared directory.
    pub binds: Vec<Bind>,
    /// Images that the container sees beside its own.
    pub images: Vec<SeenImage>,
    /// What was left out, in plain words.
    pub notes: Vec<String>,
}

/// Translates the configuration of `container`, whose root filesystem is at `root` in the guest.
/// Its namespaces are the guest's already, by [`namespaces::translate`].
///
/// # Errors
/// [`Error::Invalid`] when it is not an OCI configuration or asks for what can't be given.
pub fn translate(
    mut spec: Document,
    container: &ContainerId,
    root: &str,
) -> Result<GuestSpec, Error> {
    if spec.get::<Map<String, Value>>("/process")?.is_none() {
        return Err(Error::Invalid("config.json has no process".into()));
    }
    let mut notes = Vec::new();
    notes.extend(forget_label(&mut spec, "/process"));
    spec.set("/root/path", root)?;
    let (mut binds, images) = mounts::translate(&mut spec, container)?;
    binds.extend(hooks::translate(&mut spec, container)?);
    linux::translate(&mut spec, container, &mut notes)?;
    // Without a namespace of its own the container has the pod's name, which the guest has already.
    let namespaces: Vec<LinuxNamespace> = spec.list("/linux/namespaces")?;
    let own = |namespace: &LinuxNamespace| {
        namespace.typ() == LinuxNamespaceType::Uts && document::joined(namespace).is_none()
    };
    if !namespaces.iter().any(own) {
        spec.remove("/hostname");
        spec.remove("/domainname");
    }
    Ok(GuestSpec { spec, binds, images, notes })
}

/// Translates the `process` object of an additional process; returns what was left out.
pub fn translate_exec(process: &mut Document) -> Option<String> {
    forget_label(process, "")
}

/// Kubernetes writes a label for every process of a host with SELinux.
fn forget_label(spec: &mut Document, process: &str) -> Option<String> {
    let path = format!("{process}/selinuxLabel");
    let label = spec.json(&path).clone();
    spec.remove(&path).then(|| format!("SELinux label {label} is not applied in the guest"))
}

#[cfg(test)]
mod tests;
