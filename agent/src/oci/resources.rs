//! `linux.resources` of config.json, also what an update is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::null_is_default;

/// `linux.resources`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resources {
    pub(crate) devices: Option<Vec<DeviceRule>>,
    pub(crate) memory: Option<Memory>,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub(crate) block_io: Option<BlockIo>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) hugepage_limits: Vec<HugepageLimit>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) rdma: BTreeMap<String, Rdma>,
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

/// `memory`, in bytes; -1 means no limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Memory {
    pub(crate) limit: Option<i64>,
    pub(crate) reservation: Option<i64>,
    /// Memory and swap together.
    pub(crate) swap: Option<i64>,
    pub(crate) check_before_update: Option<bool>,
    /// Only looked at to say that it is not applied, as the next ones.
    pub(crate) swappiness: Option<u64>,
    pub(crate) kernel: Option<i64>,
    #[serde(rename = "kernelTCP")]
    pub(crate) kernel_tcp: Option<i64>,
    #[serde(rename = "disableOOMKiller")]
    pub(crate) disable_oom_killer: Option<bool>,
}

/// `cpu`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Cpu {
    pub(crate) shares: Option<u64>,
    /// Microseconds per period; zero or less means no limit.
    pub(crate) quota: Option<i64>,
    /// Microseconds.
    pub(crate) burst: Option<u64>,
    /// Microseconds.
    pub(crate) period: Option<u64>,
    pub(crate) cpus: String,
    pub(crate) mems: String,
    pub(crate) idle: Option<i64>,
    /// Only looked at to say that it is not applied, as the next one.
    pub(crate) realtime_runtime: Option<i64>,
    pub(crate) realtime_period: Option<u64>,
}

/// `pids`; negative means no limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pids {
    pub(crate) limit: Option<i64>,
}

/// `blockIO`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BlockIo {
    pub(crate) weight: Option<u16>,
    /// Only looked at to say that it is not applied.
    pub(crate) leaf_weight: Option<u16>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) weight_device: Vec<WeightDevice>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) throttle_read_bps_device: Vec<ThrottleDevice>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) throttle_write_bps_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "null_is_default")]
    pub(crate) throttle_read_iops_device: Vec<ThrottleDevice>,
    #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "null_is_default")]
    pub(crate) throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// `blockIO.weightDevice[]`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WeightDevice {
    pub(crate) major: i64,
    pub(crate) minor: i64,
    pub(crate) weight: Option<u16>,
}

/// `blockIO.throttle…Device[]`; the rate is bytes or operations per second.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ThrottleDevice {
    pub(crate) major: i64,
    pub(crate) minor: i64,
    pub(crate) rate: u64,
}

/// `hugepageLimits[]`; the size is written as `2MB`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HugepageLimit {
    pub(crate) page_size: String,
    pub(crate) limit: u64,
}

/// `rdma` of one device.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rdma {
    pub(crate) hca_handles: Option<u32>,
    pub(crate) hca_objects: Option<u32>,
}
