//! `linux.resources` to files of cgroup v2 (config-linux.md, "Control groups"; the conversions
//! are those of the kernel's and runc's documentation). Pure.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory};

use crate::oci::Resources;

/// A file of the cgroup and what to write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// File name.
    pub(super) file: String,
    /// Content.
    pub(super) value: String,
    /// What of the kernel's answers is no failure.
    pub(super) forgive: Forgive,
}

/// What of the kernel's answers to a setting is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgive {
    /// None.
    Nothing,
    /// A kernel without the file enforces the value anyhow, or has it under another name.
    NoFile,
    /// A refusal: the same is set again behind another setting that it depends on.
    Refusal,
}

/// Files of the cgroup core that limit; the others of its files move, stop or end processes.
const CORE_LIMITS: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

fn set(file: impl Into<String>, value: impl ToString) -> Setting {
    Setting { file: file.into(), value: value.to_string(), forgive: Forgive::Nothing }
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// All settings, in the order in which they must be written. `cpu_max` is what that file says now:
/// an update may change half of it.
///
/// # Errors
/// The limits contradict each other or name an impossible file.
pub(super) fn settings(resources: &Resources, cpu_max: &str) -> Result<Vec<Setting>, String> {
    let mut all = Vec::new();
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, cpu_max, &mut all);
    }
    if let Some(memory) = &resources.memory {
        memory_settings(memory, &mut all)?;
    }
    if let Some(limit) = resources.pids.and_then(|pids| pids.limit) {
        // Nothing could run with 0, not even the first process; 1 denies as much, as with runc.
        all.push(set("pids.max", or_max(if limit == 0 { 1 } else { limit })));
    }
    if let Some(block_io) = &resources.block_io {
        io_settings(block_io, &mut all);
    }
    for huge in &resources.hugepage_limits {
        plain_name(&huge.page_size)?;
        let limit = set(format!("hugetlb.{}.max", huge.page_size), huge.limit);
        // kubelet limits every size that its host has to 0, also one that the guest lacks.
        let forgive = if huge.limit == 0 { Forgive::NoFile } else { Forgive::Nothing };
        all.push(Setting { forgive, ..limit });
        let reserved = set(format!("hugetlb.{}.rsvd.max", huge.page_size), huge.limit);
        all.push(Setting { forgive: Forgive::NoFile, ..reserved });
    }
    for (device, limits) in &resources.rdma {
        let count = |count: Option<u32>| count.map_or("max".to_owned(), |count| count.to_string());
        let (handles, objects) = (count(limits.hca_handles()), count(limits.hca_objects()));
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
    let core = name.starts_with("cgroup.") && !CORE_LIMITS.contains(&name);
    if name.is_empty() || name.contains('/') || core {
        return Err(format!("{name:?} is not a limit of a cgroup"));
    }
    Ok(())
}

fn cpu_settings(cpu: &LinuxCpu, cpu_max: &str, all: &mut Vec<Setting>) {
    let idle = cpu.idle().map(|idle| set("cpu.idle", idle));
    all.extend(idle);
    // The kernel refuses a weight while the cgroup is idle.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle().unwrap_or(0) == 0)
    {
        all.push(set("cpu.weight", weight_of_shares(shares)));
    }
    let bandwidth = bandwidth(cpu, cpu_max);
    if let Some(burst) = cpu.burst() {
        let burst = set("cpu.max.burst", burst);
        // It must never be above the quota: whether it has to be set before or after that
        // depends on which of the two grows.
        if bandwidth.is_some() {
            all.push(Setting { forgive: Forgive::Refusal, ..burst.clone() });
        }
        all.extend(bandwidth);
        all.push(burst);
    } else {
        all.extend(bandwidth);
    }
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        all.extend(list.as_ref().filter(|list| !list.is_empty()).map(|list| set(file, list)));
    }
}

/// Quota and period share a file. A lone quota keeps the period (the kernel's own rule), a lone
/// period the quota.
fn bandwidth(cpu: &LinuxCpu, cpu_max: &str) -> Option<Setting> {
    let quota = cpu.quota().map(|quota| or_max(if quota == 0 { -1 } else { quota }));
    let period = cpu.period().filter(|period| *period != 0);
    match (quota, period) {
        (None, None) => None,
        (Some(quota), None) => Some(set("cpu.max", quota)),
        (quota, Some(period)) => {
            let now = || cpu_max.split_whitespace().next().unwrap_or("max").to_owned();
            let quota = quota.unwrap_or_else(now);
            Some(set("cpu.max", format!("{quota} {period}")))
        }
    }
}

/// 2..=262144 shares to a weight of 1..=10000, by the curve through the two defaults (1024 shares
/// and weight 100) that runc and crun use since 2025 (opencontainers/cgroups).
fn weight_of_shares(shares: u64) -> u32 {
    let shares = u32::try_from(shares.clamp(2, 262_144)).unwrap_or(262_144);
    let log = f64::from(shares).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // The least weight that is not below the curve, but for what floating point adds to it.
    let below = |weight: &u32| f64::from(*weight).log10() < exponent - 1e-9;
    (1..10_000).find(|weight| !below(weight)).unwrap_or(10_000)
}

fn memory_settings(memory: &LinuxMemory, all: &mut Vec<Setting>) -> Result<(), String> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(value) = swap_alone(memory.swap().filter(|swap| *swap != 0), limit)? {
        // Without swap in the kernel none can be used, which is what most ask for.
        let optional = value == "0" || value == "max";
        let forgive = if optional { Forgive::NoFile } else { Forgive::Nothing };
        all.push(Setting { forgive, ..set("memory.swap.max", value) });
    }
    if let Some(limit) = limit {
        all.push(set("memory.max", or_max(limit)));
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        all.push(set("memory.low", or_max(reservation)));
    }
    Ok(())
}

/// The specification counts memory and swap together, version 2 of cgroups swap alone. The cases
/// are those of runc: no limit of memory and no word of swap means no limit of either.
fn swap_alone(both: Option<i64>, memory: Option<i64>) -> Result<Option<String>, String> {
    let Some(both) = both else {
        return Ok(memory.filter(|limit| *limit == -1).map(|_| "max".to_owned()));
    };
    match memory {
        _ if both < 0 => Ok(Some("max".to_owned())),
        None => Err("a swap limit needs a memory limit".to_owned()),
        Some(-1) => Ok(Some(both.to_string())),
        Some(limit) if limit < 0 => Err(format!("memory limit {limit}")),
        Some(limit) if both < limit => {
            Err(format!("memory and swap limit {both} is below memory limit {limit}"))
        }
        Some(limit) => Ok(Some((both - limit).to_string())),
    }
}

fn io_settings(block_io: &LinuxBlockIo, all: &mut Vec<Setting>) {
    // A weight matters only with a scheduler that knows weights: BFQ has its own file with the
    // specification's numbers, the cost model a wider scale.
    let weights = |device: &str, default: &str, weight: u16| {
        let found = |file, value| Setting { forgive: Forgive::NoFile, ..set(file, value) };
        [
            found("io.bfq.weight", format!("{device}{weight}")),
            found("io.weight", format!("{default}{}", io_weight(weight))),
        ]
    };
    if let Some(value) = block_io.weight().filter(|weight| *weight != 0) {
        all.extend(weights("", "default ", value));
    }
    for device in block_io.weight_device().iter().flatten() {
        if let Some(value) = device.weight().filter(|weight| *weight != 0) {
            let name = format!("{}:{} ", device.major(), device.minor());
            all.extend(weights(&name, &name, value));
        }
    }
    for (kind, devices) in [
        ("rbps", block_io.throttle_read_bps_device()),
        ("wbps", block_io.throttle_write_bps_device()),
        ("riops", block_io.throttle_read_iops_device()),
        ("wiops", block_io.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            let rate = Some(device.rate()).filter(|rate| *rate != 0);
            let rate = rate.map_or("max".to_owned(), |rate| rate.to_string());
            let (major, minor) = (device.major(), device.minor());
            all.push(set("io.max", format!("{major}:{minor} {kind}={rate}")));
        }
    }
}

/// 10..=1000 of cgroup v1 to 1..=10000, linearly.
fn io_weight(weight: u16) -> u32 {
    let weight = u32::from(weight.clamp(10, 1000));
    1 + (weight - 10) * 9999 / 990
}

#[cfg(test)]
mod tests;
