//! The OCI runtime configuration, as far as it applies inside a Linux guest. Field names and
//! meanings are those of the specification 1.2 (config.md, config-linux.md); unknown fields are
//! ignored, as the specification demands.

mod left_out;
pub(crate) mod linux;
pub(crate) mod process;
pub(crate) mod resources;
pub(crate) mod seccomp;

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use linux::{Linux, NamespaceType};
pub(crate) use process::Process;
pub(crate) use resources::Resources;

/// config.json.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) process: Option<Process>,
    pub(crate) root: Root,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) mounts: Vec<Mount>,
    pub(crate) hooks: Option<Hooks>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) annotations: HashMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) linux: Linux,
}

/// `root`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Root {
    /// Absolute path in the guest.
    pub(crate) path: PathBuf,
    pub(crate) readonly: bool,
}

/// `mounts[]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Mount {
    pub(crate) destination: PathBuf,
    pub(crate) source: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) options: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) uid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) gid_mappings: Vec<IdMapping>,
}

/// A range of ids: `containerID..+size` inside is `hostID..+size` in the guest.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(crate) container_id: u32,
    #[serde(rename = "hostID")]
    pub(crate) host_id: u32,
    pub(crate) size: u32,
}

/// `hooks`. Only the kinds that run inside the guest; the host runs the others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Hooks {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) create_container: Vec<Hook>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) start_container: Vec<Hook>,
}

/// One program of `hooks`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hook {
    pub(crate) path: PathBuf,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) args: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) env: Vec<String>,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
}

/// Go programs write `null` for an empty list or map.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
