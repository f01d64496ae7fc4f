//! A container's use of resources → containerd's cgroup v2 metrics (pure).

use api::usage::{self, DiskUse, HugePages, Pressure, Usage, Waiting};
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaStat,
};
use protobuf::MessageField;

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
        let mut data = PSIData::new();
        data.avg10 = waiting.avg10;
        data.avg60 = waiting.avg60;
        data.avg300 = waiting.avg300;
        data.total = waiting.total;
        MessageField::some(data)
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
    let from = &usage.cpu;
    let mut cpu = CPUStat::new();
    cpu.usage_usec = from.usage_usec;
    cpu.user_usec = from.user_usec;
    cpu.system_usec = from.system_usec;
    cpu.nr_periods = from.nr_periods;
    cpu.nr_throttled = from.nr_throttled;
    cpu.throttled_usec = from.throttled_usec;
    cpu.nr_bursts = from.nr_bursts;
    cpu.burst_usec = from.burst_usec;
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
    let mut memory = MemoryStat::new();
    memory.anon = from.anon;
    memory.file = from.file;
    memory.kernel_stack = from.kernel_stack;
    memory.slab = from.slab;
    memory.sock = from.sock;
    memory.shmem = from.shmem;
    memory.file_mapped = from.file_mapped;
    memory.file_dirty = from.file_dirty;
    memory.file_writeback = from.file_writeback;
    memory.anon_thp = from.anon_thp;
    memory.inactive_anon = from.inactive_anon;
    memory.active_anon = from.active_anon;
    memory.inactive_file = from.inactive_file;
    memory.active_file = from.active_file;
    memory.unevictable = from.unevictable;
    memory.slab_reclaimable = from.slab_reclaimable;
    memory.slab_unreclaimable = from.slab_unreclaimable;
    memory.pgfault = from.pgfault;
    memory.pgmajfault = from.pgmajfault;
    // Since Linux 5.9 these are counted apart for anonymous and file pages.
    memory.workingset_refault =
        from.workingset_refault_anon.saturating_add(from.workingset_refault_file);
    memory.workingset_activate =
        from.workingset_activate_anon.saturating_add(from.workingset_activate_file);
    memory.workingset_nodereclaim = from.workingset_nodereclaim;
    memory.pgrefill = from.pgrefill;
    memory.pgscan = from.pgscan;
    memory.pgsteal = from.pgsteal;
    memory.pgactivate = from.pgactivate;
    memory.pgdeactivate = from.pgdeactivate;
    memory.pglazyfree = from.pglazyfree;
    memory.pglazyfreed = from.pglazyfreed;
    memory.thp_fault_alloc = from.thp_fault_alloc;
    memory.thp_collapse_alloc = from.thp_collapse_alloc;
    memory
}

fn memory_events(from: &usage::MemoryEvents) -> MemoryEvents {
    let mut events = MemoryEvents::new();
    events.low = from.low;
    events.high = from.high;
    events.max = from.max;
    events.oom = from.oom;
    events.oom_kill = from.oom_kill;
    events.oom_group_kill = from.oom_group_kill;
    events
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
