//! `linux.resources` of config.json, also what an update is made of.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxRdma};
use serde::{Deserialize, Serialize};

use super::null_is_default;

/// `linux.resources`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resources {
    pub(crate) devices: Option<Vec<DeviceRule>>,
    pub(crate) memory: Option<LinuxMemory>,
    pub(crate) cpu: Option<LinuxCpu>,
    pub(crate) pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub(crate) block_io: Option<LinuxBlockIo>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) hugepage_limits: Vec<HugepageLimit>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) rdma: BTreeMap<String, LinuxRdma>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) unified: BTreeMap<String, String>,
}

/// `devices[]`: absent numbers mean all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DeviceRule {
    pub(crate) allow: bool,
    /// `a`, `b` or `c`; empty means `a`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    /// Of the letters `r`, `w`, `m`; empty means all.
    pub(crate) access: String,
}

/// `pids`; negative means no limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pids {
    pub(crate) limit: Option<i64>,
}

/// `hugepageLimits[]`; the size is written as `2MB`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HugepageLimit {
    pub(crate) page_size: String,
    pub(crate) limit: u64,
}
