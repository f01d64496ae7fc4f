//! Which number is which metric (pure).

use api::usage::Census;
use containerd_shim_protos::cgroups_v2::metrics::{Metrics, PSIStats};
use network::Counters;
use protobuf::MessageField;
use protocol::cri::LinuxContainerResources;

use super::catalogue as kind;
use super::catalogue::Kind;
use super::samples::Samples;
use crate::pods::Known;
use crate::row;

const MICROSECONDS: u64 = 1_000_000;
const NANOSECONDS: i64 = 1_000_000_000;

/// What is known of a use.
#[derive(Debug)]
pub(super) struct Used<'a> {
    /// What the cgroup counts.
    pub(super) metrics: &'a Metrics,
    /// What the agent counts.
    pub(super) census: Option<&'a Census>,
    /// Bytes of the disk on the node's.
    pub(super) written: Option<u64>,
}

/// Since when something is there (nanoseconds since 1970; 0: not yet), and when it was last seen.
pub(super) fn seen(samples: &mut Samples, started_at: i64, known: &Known) {
    samples.add(&kind::START_TIME, seconds(started_at));
    samples.add(&kind::LAST_SEEN, seconds(known.at));
}

fn seconds(nanoseconds: i64) -> Option<u64> {
    u64::try_from(nanoseconds / NANOSECONDS).ok().filter(|seconds| *seconds != 0)
}

/// What a container was asked to be limited to, as it is in force.
pub(super) fn asked_for(samples: &mut Samples, row: &row::Container) {
    let asked = row.config.as_ref().and_then(|config| config.linux.as_ref()?.resources.as_ref());
    let in_force = row.resources.as_ref().and_then(|resources| resources.linux.as_ref());
    let Some(limits) = in_force.or(asked) else { return };
    let above_zero = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    samples.add(&kind::SPEC_CPU_PERIOD, above_zero(limits.cpu_period));
    samples.add(&kind::SPEC_CPU_QUOTA, above_zero(limits.cpu_quota));
    samples.add(&kind::SPEC_CPU_SHARES, above_zero(limits.cpu_shares));
    let memory = above_zero(limits.memory_limit_in_bytes).unwrap_or(0);
    samples.add(&kind::SPEC_MEMORY_LIMIT, memory);
    let swap = above_zero(limits.memory_swap_limit_in_bytes).unwrap_or(0);
    samples.add(&kind::SPEC_MEMORY_SWAP_LIMIT, swap);
    samples.add(&kind::SPEC_MEMORY_RESERVATION, reservation(limits));
}

/// `memory.min`; none if it is no number.
fn reservation(limits: &LinuxContainerResources) -> Option<u64> {
    limits.unified.get("memory.min").map_or(Some(0), |text| text.trim().parse().ok())
}

/// What a cgroup uses.
pub(super) fn used(samples: &mut Samples, used: &Used<'_>) {
    cpu(samples, used.metrics);
    memory(samples, used.metrics);
    disks(samples, used.metrics);
    let metrics = used.metrics;
    samples.add(&kind::THREADS, metrics.pids.current);
    samples.add(&kind::THREADS_MAX, metrics.pids.limit);
    samples.add(&kind::FS_USAGE, used.written);
    let pressures = [
        (&metrics.cpu.psi, kind::PRESSURE_CPU_WAITING, kind::PRESSURE_CPU_STALLED),
        (&metrics.memory.psi, kind::PRESSURE_MEMORY_WAITING, kind::PRESSURE_MEMORY_STALLED),
        (&metrics.io.psi, kind::PRESSURE_IO_WAITING, kind::PRESSURE_IO_STALLED),
    ];
    for (psi, waiting, stalled) in pressures {
        pressure(samples, psi, &waiting, &stalled);
    }
    let Some(census) = used.census else { return };
    samples.add(&kind::PROCESSES, census.processes);
    samples.add(&kind::FILE_DESCRIPTORS, census.file_descriptors);
    samples.add(&kind::SOCKETS, census.sockets);
    samples.add_with(&kind::ULIMITS_SOFT, &["max_open_files"], census.open_files_limit);
    samples.add(&kind::FS_LIMIT, census.root_bytes);
    samples.add(&kind::FS_INODES, census.root_inodes);
    samples.add(&kind::FS_INODES_FREE, census.root_inodes_free);
}

fn cpu(samples: &mut Samples, metrics: &Metrics) {
    let cpu = &metrics.cpu;
    samples.add_with(&kind::CPU_USAGE, &["total"], cpu.usage_usec / MICROSECONDS);
    samples.add(&kind::CPU_USER, cpu.user_usec / MICROSECONDS);
    samples.add(&kind::CPU_SYSTEM, cpu.system_usec / MICROSECONDS);
    samples.add(&kind::CPU_PERIODS, cpu.nr_periods);
    samples.add(&kind::CPU_THROTTLED_PERIODS, cpu.nr_throttled);
    samples.add(&kind::CPU_THROTTLED_SECONDS, cpu.throttled_usec / MICROSECONDS);
}

fn memory(samples: &mut Samples, metrics: &Metrics) {
    let memory = &metrics.memory;
    samples.add(&kind::MEMORY_USAGE, memory.usage);
    let working_set = memory.usage.saturating_sub(memory.inactive_file);
    samples.add(&kind::MEMORY_WORKING_SET, working_set);
    // Kernels before 5.19 don't know it.
    samples.add(&kind::MEMORY_MAX_USAGE, Some(memory.max_usage).filter(|most| *most != 0));
    samples.add(&kind::MEMORY_RSS, memory.anon);
    samples.add(&kind::MEMORY_CACHE, memory.file);
    samples.add(&kind::MEMORY_MAPPED_FILE, memory.file_mapped);
    samples.add(&kind::MEMORY_KERNEL, memory.kernel_stack.saturating_add(memory.slab));
    samples.add(&kind::MEMORY_SWAP, memory.swap_usage);
    samples.add(&kind::MEMORY_FAILCNT, metrics.memory_events.max);
    samples.add(&kind::OOM_EVENTS, metrics.memory_events.oom_kill);
    for (name, faults) in [("pgfault", memory.pgfault), ("pgmajfault", memory.pgmajfault)] {
        samples.add_with(&kind::MEMORY_FAILURES, &[name, "hierarchy"], faults);
    }
    for pages in &metrics.hugetlb {
        samples.add_with(&kind::HUGETLB_USAGE, &[&pages.pagesize], pages.current);
    }
}

fn disks(samples: &mut Samples, metrics: &Metrics) {
    for disk in &metrics.io.usage {
        let (major, minor) = (disk.major.to_string(), disk.minor.to_string());
        let device = format!("{major}:{minor}");
        samples.add_with(&kind::FS_READS, &[&device], disk.rios);
        samples.add_with(&kind::FS_READ_BYTES, &[&device], disk.rbytes);
        samples.add_with(&kind::FS_WRITES, &[&device], disk.wios);
        samples.add_with(&kind::FS_WRITTEN_BYTES, &[&device], disk.wbytes);
        for (operation, bytes) in [("read", disk.rbytes), ("write", disk.wbytes)] {
            samples.add_with(&kind::BLKIO, &[&device, &major, &minor, operation], bytes);
        }
    }
}

fn pressure(samples: &mut Samples, psi: &MessageField<PSIStats>, waiting: &Kind, stalled: &Kind) {
    let Some(psi) = psi.as_ref() else { return };
    let total = |data: Option<u64>| data.map(|microseconds| microseconds / MICROSECONDS);
    samples.add(waiting, total(psi.some.as_ref().map(|data| data.total)));
    samples.add(stalled, total(psi.full.as_ref().map(|data| data.total)));
}

/// What went through the interfaces.
pub(super) fn traffic(samples: &mut Samples, interfaces: &[Counters]) {
    for one in interfaces.iter().filter(|one| one.name != "lo") {
        let values = [
            (kind::RECEIVED_BYTES, one.received_bytes),
            (kind::RECEIVED_PACKETS, one.received_packets),
            (kind::RECEIVED_ERRORS, one.received_errors),
            (kind::RECEIVED_DROPPED, one.received_dropped),
            (kind::SENT_BYTES, one.sent_bytes),
            (kind::SENT_PACKETS, one.sent_packets),
            (kind::SENT_ERRORS, one.sent_errors),
            (kind::SENT_DROPPED, one.sent_dropped),
        ];
        for (kind, value) in values {
            samples.add_with(&kind, &[&one.name], value);
        }
    }
}
