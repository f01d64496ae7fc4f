//! A container's use of resources → containerd's cgroup v2 metrics (pure).

use api::usage::{self, DiskUse, HugePages, Pressure, Usage, Waiting};
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaStat,
};
use protobuf::MessageField;

/// A message with the fields of the same names.
macro_rules! copied {
    ($message:ident from $from:expr; $($field:ident),+) => {{
        let (from, mut message) = ($from, $message::new());
        $(message.$field = from.$field;)+
        message
    }};
}

/// Translates it. All nested messages are present, because CRI-O reads them unasked.
pub(crate) fn metrics(usage: &Usage) -> Metrics {
    let mut metrics = Metrics::new();
    metrics.pids = MessageField::some(pids(usage));
    metrics.cpu = MessageField::some(cpu(usage));
    metrics.memory = MessageField::some(memory(usage));
    metrics.memory_events = MessageField::some(memory_events(&usage.memory_events));
    metrics.io = MessageField::some(io(usage));
    metrics.rdma = MessageField::some(RdmaStat::new());
    metrics.hugetlb = usage.huge_pages.iter().map(huge_pages).collect();
    metrics
}

fn pressure(pressure: &Pressure) -> MessageField<PSIStats> {
    let data = |waiting: &Waiting| {
        MessageField::some(copied!(PSIData from waiting; avg10, avg60, avg300, total))
    };
    let mut stats = PSIStats::new();
    stats.some = data(&pressure.some);
    stats.full = data(&pressure.full);
    MessageField::some(stats)
}

fn pids(usage: &Usage) -> PidsStat {
    let mut pids = PidsStat::new();
    pids.current = usage.processes.current;
    // Zero stands for "no limit" in this message.
    pids.limit = Some(usage.processes.max).filter(|&limit| limit != u64::MAX).unwrap_or(0);
    pids
}

fn cpu(usage: &Usage) -> CPUStat {
    let mut cpu = copied!(CPUStat from &usage.cpu;
        usage_usec, user_usec, system_usec, nr_periods, nr_throttled, throttled_usec, nr_bursts,
        burst_usec);
    cpu.psi = pressure(&usage.cpu_pressure);
    cpu
}

fn memory(usage: &Usage) -> MemoryStat {
    let mut memory = memory_stat(&usage.memory_stat);
    memory.usage = usage.memory.current;
    memory.usage_limit = usage.memory.max;
    memory.max_usage = usage.memory.peak;
    memory.swap_usage = usage.swap.current;
    memory.swap_limit = usage.swap.max;
    memory.swap_max_usage = usage.swap.peak;
    memory.psi = pressure(&usage.memory_pressure);
    memory
}

fn huge_pages(pages: &HugePages) -> HugeTlbStat {
    let mut stat = HugeTlbStat::new();
    stat.current = pages.level.current;
    stat.max = pages.level.max;
    stat.failcnt = pages.events.max;
    stat.pagesize.clone_from(&pages.size);
    stat
}

fn memory_stat(from: &usage::MemoryStat) -> MemoryStat {
    let mut memory = copied!(MemoryStat from from;
        anon, file, kernel_stack, slab, sock, shmem, file_mapped, file_dirty, file_writeback,
        anon_thp, inactive_anon, active_anon, inactive_file, active_file, unevictable,
        slab_reclaimable, slab_unreclaimable, pgfault, pgmajfault, workingset_nodereclaim, pgrefill,
        pgscan, pgsteal, pgactivate, pgdeactivate, pglazyfree, pglazyfreed, thp_fault_alloc,
        thp_collapse_alloc);
    // Since Linux 5.9 these are counted apart for anonymous and file pages.
    memory.workingset_refault =
        from.workingset_refault_anon.saturating_add(from.workingset_refault_file);
    memory.workingset_activate =
        from.workingset_activate_anon.saturating_add(from.workingset_activate_file);
    memory
}

fn memory_events(from: &usage::MemoryEvents) -> MemoryEvents {
    copied!(MemoryEvents from from; low, high, max, oom, oom_kill, oom_group_kill)
}

fn io(usage: &Usage) -> IOStat {
    let entry = |disk: &DiskUse| IOEntry {
        major: disk.numbers.0,
        minor: disk.numbers.1,
        rbytes: disk.rbytes,
        wbytes: disk.wbytes,
        rios: disk.rios,
        wios: disk.wios,
        ..IOEntry::default()
    };
    let mut stat = IOStat::new();
    stat.usage = usage.disks.iter().map(entry).collect();
    stat.psi = pressure(&usage.io_pressure);
    stat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nested_message_is_there_even_without_use() {
        let metrics = metrics(&Usage::default());
        assert!(metrics.pids.is_some() && metrics.cpu.is_some() && metrics.memory.is_some());
        assert!(metrics.io.is_some() && metrics.memory_events.is_some());
        assert!(metrics.cpu.psi.some.is_some() && metrics.memory.psi.full.is_some());
        assert!(metrics.io.psi.some.is_some() && metrics.rdma.is_some());
    }

    #[test]
    fn numbers_are_where_containerd_looks_for_them() {
        let mut usage = Usage::default();
        usage.processes.max = u64::MAX;
        usage.memory.current = 4096;
        usage.memory_stat.workingset_refault_anon = 1;
        usage.memory_stat.workingset_refault_file = 2;
        usage.memory_events.oom_kill = 5;
        usage.disks.push(DiskUse { numbers: (254, 1), wios: 4, ..DiskUse::default() });
        let metrics = metrics(&usage);
        assert_eq!((metrics.pids.limit, metrics.memory.usage), (0, 4096));
        assert_eq!((metrics.memory.workingset_refault, metrics.memory_events.oom_kill), (3, 5));
        assert_eq!((metrics.io.usage[0].minor, metrics.io.usage[0].wios), (1, 4));
    }
}
