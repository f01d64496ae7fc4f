//! `linux` of config.json without resources and seccomp.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxTimeOffset};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::seccomp::Seccomp;
use super::{Resources, null_is_default};

/// `linux`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Linux {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) uid_mappings: Vec<LinuxIdMapping>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) gid_mappings: Vec<LinuxIdMapping>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) time_offsets: BTreeMap<String, LinuxTimeOffset>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) devices: Vec<Device>,
    pub(crate) resources: Option<Resources>,
    pub(crate) rootfs_propagation: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) masked_paths: Vec<PathBuf>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) readonly_paths: Vec<PathBuf>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) sysctl: BTreeMap<String, String>,
    pub(crate) seccomp: Option<Seccomp>,
    pub(crate) personality: Option<Personality>,
    /// Only looked at to say that it is not applied, as the next two.
    #[serde(skip_serializing)]
    pub(crate) memory_policy: Option<Value>,
    #[serde(skip_serializing)]
    pub(crate) intel_rdt: Option<Value>,
    #[serde(deserialize_with = "null_is_default", skip_serializing)]
    pub(crate) net_devices: BTreeMap<String, Value>,
}

/// `linux.namespaces[]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Namespace {
    #[serde(rename = "type")]
    pub(crate) kind: NamespaceType,
    /// Joins the guest's namespace of this path instead of making one.
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
}

/// Kinds of namespaces, in the order in which they are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the kernel's names")]
pub(crate) enum NamespaceType {
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
    Pid,
    Mount,
    User,
}

/// `linux.devices[]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    /// `b`, `c`, `u` or `p`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) file_mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// `linux.personality`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Personality {
    pub(crate) domain: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) flags: Vec<String>,
}

impl Linux {
    /// The namespace of a kind, if the container does not simply share the guest's.
    pub(crate) fn namespace(&self, kind: NamespaceType) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind == kind)
    }

    /// Whether the container gets a namespace of its own of this kind.
    pub(crate) fn is_new(&self, kind: NamespaceType) -> bool {
        self.namespace(kind).is_some_and(|namespace| namespace.path().is_none())
    }
}

impl Namespace {
    /// The path, unless it is empty, which Go programs write for none.
    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        self.path.as_deref().filter(|path| !path.as_os_str().is_empty())
    }
}
