//! `linux.resources` to files of cgroup v2 (config-linux.md, "Control groups"; the conversions
//! are those of the kernel's and runc's documentation). Pure.

use crate::oci::Resources;
use crate::oci::resources::{BlockIo, Cpu, Memory, ThrottleDevice};

/// A file of the cgroup and what to write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// File name.
    pub(super) file: String,
    /// Content.
    pub(super) value: String,
    /// A kernel without this file enforces the value anyhow.
    pub(super) optional: bool,
}

/// Microseconds; the kernel's and the specification's default.
const DEFAULT_PERIOD: u64 = 100_000;

fn set(file: impl Into<String>, value: impl ToString) -> Setting {
    Setting { file: file.into(), value: value.to_string(), optional: false }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// All settings, in the order in which they must be written.
///
/// # Errors
/// The limits contradict each other or name an impossible file.
pub(super) fn settings(resources: &Resources) -> Result<Vec<Setting>, String> {
    let mut all = Vec::new();
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, &mut all);
    }
    if let Some(memory) = &resources.memory {
        memory_settings(memory, &mut all)?;
    }
    if let Some(pids) = resources.pids.filter(|pids| pids.limit != 0) {
        all.push(set("pids.max", or_max(pids.limit)));
    }
    if let Some(block_io) = &resources.block_io {
        io_settings(block_io, &mut all);
    }
    for huge in &resources.hugepage_limits {
        plain_name(&huge.page_size)?;
        all.push(set(format!("hugetlb.{}.max", huge.page_size), huge.limit));
        let reserved = set(format!("hugetlb.{}.rsvd.max", huge.page_size), huge.limit);
        all.push(Setting { optional: true, ..reserved });
    }
    for (device, limits) in &resources.rdma {
        let count = |count: Option<u32>| count.map_or("max".to_owned(), |count| count.to_string());
        let (handles, objects) = (count(limits.hca_handles), count(limits.hca_objects));
        all.push(set("rdma.max", format!("{device} hca_handle={handles} hca_object={objects}")));
    }
    for (file, value) in &resources.unified {
        plain_name(file)?;
        all.push(set(file, value));
    }
    Ok(all)
}

/// A name that stays within the cgroup's directory and its controllers.
fn plain_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains('/') || name.starts_with("cgroup.") {
        return Err(format!("{name:?} is not a limit of a cgroup"));
    }
    Ok(())
}

fn cpu_settings(cpu: &Cpu, all: &mut Vec<Setting>) {
    // idle=1 and a weight exclude each other; the later file wins.
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        all.push(set("cpu.weight", weight_of_shares(shares)));
    }
    if let Some(idle) = cpu.idle {
        all.push(set("cpu.idle", idle));
    }
    if cpu.quota.is_some() || cpu.period.is_some() {
        let period = cpu.period.filter(|period| *period != 0).unwrap_or(DEFAULT_PERIOD);
        let quota = cpu.quota.filter(|quota| *quota > 0).unwrap_or(-1);
        all.push(set("cpu.max", format!("{} {period}", or_max(quota))));
    }
    if let Some(burst) = cpu.burst {
        all.push(set("cpu.max.burst", burst));
    }
    if !cpu.cpus.is_empty() {
        all.push(set("cpuset.cpus", &cpu.cpus));
    }
    if !cpu.mems.is_empty() {
        all.push(set("cpuset.mems", &cpu.mems));
    }
}

/// 2..=262144 shares to a weight of 1..=10000, linearly.
fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

fn memory_settings(memory: &Memory, all: &mut Vec<Setting>) -> Result<(), String> {
    let limit = memory.limit.filter(|limit| *limit != 0);
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        let value = match limit {
            _ if swap < 0 => "max".to_owned(),
            Some(limit) if limit > 0 && swap >= limit => (swap - limit).to_string(),
            Some(limit) if limit > 0 => {
                return Err(format!("memory and swap limit {swap} is below memory limit {limit}"));
            }
            _ => return Err("a swap limit needs a memory limit".to_owned()),
        };
        // Without swap in the kernel none can be used, which is what most ask for.
        let optional = value == "0" || value == "max";
        all.push(Setting { optional, ..set("memory.swap.max", value) });
    }
    if let Some(limit) = limit {
        all.push(set("memory.max", or_max(limit)));
    }
    if let Some(reservation) = memory.reservation.filter(|reservation| *reservation != 0) {
        all.push(set("memory.low", or_max(reservation)));
    }
    Ok(())
}

fn io_settings(block_io: &BlockIo, all: &mut Vec<Setting>) {
    // A weight matters only with a scheduler that knows weights; a guest may have none.
    let weight = |value| Setting { optional: true, ..set("io.weight", value) };
    if let Some(value) = block_io.weight.filter(|weight| *weight != 0) {
        all.push(weight(format!("default {}", io_weight(value))));
    }
    for device in &block_io.weight_device {
        if let Some(value) = device.weight.filter(|weight| *weight != 0) {
            all.push(weight(format!("{}:{} {}", device.major, device.minor, io_weight(value))));
        }
    }
    let kinds: [(&str, &Vec<ThrottleDevice>); 4] = [
        ("rbps", &block_io.throttle_read_bps_device),
        ("wbps", &block_io.throttle_write_bps_device),
        ("riops", &block_io.throttle_read_iops_device),
        ("wiops", &block_io.throttle_write_iops_device),
    ];
    for (kind, devices) in kinds {
        for device in devices {
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            all.push(set("io.max", format!("{}:{} {kind}={rate}", device.major, device.minor)));
        }
    }
}

/// 10..=1000 of cgroup v1 to 1..=10000, linearly.
fn io_weight(weight: u16) -> u32 {
    let weight = u32::from(weight.clamp(10, 1000));
    1 + (weight - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::settings;

    fn of(json: &str) -> Vec<(String, String)> {
        let resources = serde_json::from_str(json).unwrap();
        let settings = settings(&resources).unwrap().into_iter();
        settings.map(|setting| (setting.file, setting.value)).collect()
    }

    fn refused(json: &str) -> bool {
        settings(&serde_json::from_str(json).unwrap()).is_err()
    }

    fn one(file: &str, value: &str) -> Vec<(String, String)> {
        vec![(file.to_owned(), value.to_owned())]
    }

    #[test]
    fn cpu_shares_become_weights() {
        for (shares, weight) in [(2, "1"), (1024, "39"), (262_144, "10000"), (1, "1")] {
            let json = format!(r#"{{"cpu":{{"shares":{shares}}}}}"#);
            assert_eq!(of(&json), one("cpu.weight", weight));
        }
        assert!(of(r#"{"cpu":{"shares":0}}"#).is_empty());
    }

    #[test]
    fn quota_and_period_share_a_file() {
        assert_eq!(of(r#"{"cpu":{"quota":50000}}"#), one("cpu.max", "50000 100000"));
        assert_eq!(of(r#"{"cpu":{"quota":-1,"period":20000}}"#), one("cpu.max", "max 20000"));
    }

    #[test]
    fn swap_is_without_memory_in_version_2() {
        let both = of(r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#);
        assert_eq!(
            both,
            [("memory.swap.max", "50"), ("memory.max", "100"), ("memory.low", "50")]
                .map(|(file, value)| (file.to_owned(), value.to_owned()))
        );
        assert_eq!(of(r#"{"memory":{"limit":-1}}"#), one("memory.max", "max"));
        assert!(refused(r#"{"memory":{"limit":100,"swap":50}}"#));
        assert!(refused(r#"{"memory":{"swap":50}}"#));
    }

    #[test]
    fn pids_and_huge_pages() {
        assert_eq!(of(r#"{"pids":{"limit":7}}"#), one("pids.max", "7"));
        assert_eq!(of(r#"{"pids":{"limit":-1}}"#), one("pids.max", "max"));
        let huge = of(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#);
        assert_eq!(huge[0], ("hugetlb.2MB.max".to_owned(), "4194304".to_owned()));
    }

    #[test]
    fn io_limits() {
        let json = r#"{"blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,
            "rate":1000}]}}"#;
        let settings = of(json);
        assert_eq!(settings[0], ("io.weight".to_owned(), "default 4950".to_owned()));
        assert_eq!(settings[1], ("io.max".to_owned(), "8:0 rbps=1000".to_owned()));
    }

    #[test]
    fn unified_keys_stay_in_the_cgroup() {
        assert_eq!(of(r#"{"unified":{"memory.high":"10"}}"#), one("memory.high", "10"));
        for key in ["../x", "a/b", "", "cgroup.procs", "cgroup.subtree_control"] {
            assert!(refused(&format!(r#"{{"unified":{{"{key}":"1"}}}}"#)), "{key}");
        }
    }
}
