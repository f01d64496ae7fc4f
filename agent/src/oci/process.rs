//! `process` of config.json, also what an exec is made of.

use std::path::PathBuf;

use oci_spec::runtime::User;
use serde::{Deserialize, Serialize};

use super::null_is_default;

/// `process`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Process {
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<ConsoleSize>,
    pub(crate) user: User,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) args: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) capabilities: Option<Capabilities>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor_profile: String,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) selinux_label: String,
    #[serde(rename = "ioPriority")]
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity")]
    pub(crate) exec_cpu_affinity: Option<CpuAffinity>,
}

/// `process.consoleSize`, in characters.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConsoleSize {
    pub(crate) height: u16,
    pub(crate) width: u16,
}

/// `process.capabilities`: names such as `CAP_CHOWN`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) bounding: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) effective: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) inheritable: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) permitted: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ambient: Vec<String>,
}

/// `process.rlimits[]`; `type` is a name such as `RLIMIT_NOFILE`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rlimit {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) hard: u64,
    pub(crate) soft: u64,
}

/// `process.ioPriority`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct IoPriority {
    pub(crate) class: String,
    pub(crate) priority: u8,
}

/// `process.scheduler`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Scheduler {
    pub(crate) policy: String,
    pub(crate) nice: i32,
    pub(crate) priority: i32,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) flags: Vec<String>,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// `process.execCPUAffinity`: lists such as `0-3,7`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CpuAffinity {
    pub(crate) initial: String,
    #[serde(rename = "final")]
    pub(crate) last: String,
}
