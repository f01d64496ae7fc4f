//! cgroup v2 files of a container → containerd's cgroup v2 metrics (pure). The files come from
//! the guest: what does not parse counts as zero, never as an error.

use std::collections::HashMap;

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaStat,
};
use protobuf::MessageField;
use sandbox::usage::{Files, MAX_LINES, keyed, single, text};

/// Translates the files. All nested messages are present, because CRI-O reads them unasked.
pub(crate) fn metrics(files: &Files) -> Metrics {
    let mut metrics = Metrics::new();
    metrics.pids = MessageField::some(pids(files));
    metrics.cpu = MessageField::some(cpu(files));
    metrics.memory = MessageField::some(memory(files));
    metrics.memory_events = MessageField::some(memory_events(files));
    metrics.io = MessageField::some(io(files));
    metrics.rdma = MessageField::some(RdmaStat::new());
    metrics.hugetlb = huge_pages(files);
    metrics
}

/// `/proc/pressure` lines, as the kernel's `Documentation/accounting/psi.rst` has them.
fn pressure(files: &Files, name: &str) -> MessageField<PSIStats> {
    let mut stats = PSIStats::new();
    stats.some = MessageField::some(PSIData::new());
    stats.full = MessageField::some(PSIData::new());
    for line in text(files, name).lines().take(2) {
        let mut data = PSIData::new();
        let mut words = line.split_whitespace();
        let kind = words.next();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => data.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => data.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => data.avg300 = value.parse().unwrap_or(0.0),
                "total" => data.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        match kind {
            Some("some") => stats.some = MessageField::some(data),
            Some("full") => stats.full = MessageField::some(data),
            _ => {}
        }
    }
    MessageField::some(stats)
}

fn pids(files: &Files) -> PidsStat {
    let mut pids = PidsStat::new();
    pids.current = single(files, "pids.current");
    // Zero stands for "no limit" in this message.
    pids.limit = Some(single(files, "pids.max")).filter(|&limit| limit != u64::MAX).unwrap_or(0);
    pids
}

fn cpu(files: &Files) -> CPUStat {
    let values = keyed(files, "cpu.stat");
    let get = |key| values.get(key).copied().unwrap_or(0);
    let mut cpu = CPUStat::new();
    cpu.usage_usec = get("usage_usec");
    cpu.user_usec = get("user_usec");
    cpu.system_usec = get("system_usec");
    cpu.nr_periods = get("nr_periods");
    cpu.nr_throttled = get("nr_throttled");
    cpu.throttled_usec = get("throttled_usec");
    cpu.nr_bursts = get("nr_bursts");
    cpu.burst_usec = get("burst_usec");
    cpu.psi = pressure(files, "cpu.pressure");
    cpu
}

fn memory(files: &Files) -> MemoryStat {
    let mut memory = memory_stat(&keyed(files, "memory.stat"));
    memory.usage = single(files, "memory.current");
    memory.usage_limit = single(files, "memory.max");
    memory.max_usage = single(files, "memory.peak");
    memory.swap_usage = single(files, "memory.swap.current");
    memory.swap_limit = single(files, "memory.swap.max");
    memory.swap_max_usage = single(files, "memory.swap.peak");
    memory.psi = pressure(files, "memory.pressure");
    memory
}

/// `hugetlb.<size>.*` for each size that the guest's kernel has.
fn huge_pages(files: &Files) -> Vec<HugeTlbStat> {
    let size = |name: &'_ String| {
        Some(name.strip_prefix("hugetlb.")?.strip_suffix(".current")?.to_owned())
    };
    let mut sizes: Vec<_> = files.keys().filter_map(size).take(MAX_LINES).collect();
    sizes.sort();
    let stat = |pagesize: String| {
        let mut stat = HugeTlbStat::new();
        stat.current = single(files, &format!("hugetlb.{pagesize}.current"));
        stat.max = single(files, &format!("hugetlb.{pagesize}.max"));
        let events = keyed(files, &format!("hugetlb.{pagesize}.events"));
        stat.failcnt = events.get("max").copied().unwrap_or(0);
        stat.pagesize = pagesize;
        stat
    };
    sizes.into_iter().map(stat).collect()
}

fn memory_stat(values: &HashMap<&str, u64>) -> MemoryStat {
    let get = |key| values.get(key).copied().unwrap_or(0);
    let mut memory = MemoryStat::new();
    memory.anon = get("anon");
    memory.file = get("file");
    memory.kernel_stack = get("kernel_stack");
    memory.slab = get("slab");
    memory.sock = get("sock");
    memory.shmem = get("shmem");
    memory.file_mapped = get("file_mapped");
    memory.file_dirty = get("file_dirty");
    memory.file_writeback = get("file_writeback");
    memory.anon_thp = get("anon_thp");
    memory.inactive_anon = get("inactive_anon");
    memory.active_anon = get("active_anon");
    memory.inactive_file = get("inactive_file");
    memory.active_file = get("active_file");
    memory.unevictable = get("unevictable");
    memory.slab_reclaimable = get("slab_reclaimable");
    memory.slab_unreclaimable = get("slab_unreclaimable");
    memory.pgfault = get("pgfault");
    memory.pgmajfault = get("pgmajfault");
    // Since Linux 5.9 these are counted apart for anonymous and file pages.
    memory.workingset_refault =
        get("workingset_refault_anon").saturating_add(get("workingset_refault_file"));
    memory.workingset_activate =
        get("workingset_activate_anon").saturating_add(get("workingset_activate_file"));
    memory.workingset_nodereclaim = get("workingset_nodereclaim");
    memory.pgrefill = get("pgrefill");
    memory.pgscan = get("pgscan");
    memory.pgsteal = get("pgsteal");
    memory.pgactivate = get("pgactivate");
    memory.pgdeactivate = get("pgdeactivate");
    memory.pglazyfree = get("pglazyfree");
    memory.pglazyfreed = get("pglazyfreed");
    memory.thp_fault_alloc = get("thp_fault_alloc");
    memory.thp_collapse_alloc = get("thp_collapse_alloc");
    memory
}

fn memory_events(files: &Files) -> MemoryEvents {
    let values = keyed(files, "memory.events");
    let get = |key| values.get(key).copied().unwrap_or(0);
    let mut events = MemoryEvents::new();
    events.low = get("low");
    events.high = get("high");
    events.max = get("max");
    events.oom = get("oom");
    events.oom_kill = get("oom_kill");
    events.oom_group_kill = get("oom_group_kill");
    events
}

/// `io.stat`: `major:minor key=value …` per device.
fn io(files: &Files) -> IOStat {
    let mut stat = IOStat::new();
    for line in text(files, "io.stat").lines().take(MAX_LINES) {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        let mut entry = IOEntry { major, minor, ..IOEntry::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => entry.rbytes = value,
                "wbytes" => entry.wbytes = value,
                "rios" => entry.rios = value,
                "wios" => entry.wios = value,
                _ => {}
            }
        }
        stat.usage.push(entry);
    }
    stat.psi = pressure(files, "io.pressure");
    stat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn every_nested_message_is_there_even_without_files() {
        let metrics = metrics(&Files::new());
        assert!(metrics.pids.is_some() && metrics.cpu.is_some() && metrics.memory.is_some());
        assert!(metrics.io.is_some() && metrics.memory_events.is_some());
        assert!(metrics.cpu.psi.some.is_some() && metrics.memory.psi.full.is_some());
        assert!(metrics.io.psi.some.is_some() && metrics.rdma.is_some());
    }

    #[test]
    fn files_of_a_real_kernel_are_understood() {
        let files = files(&[
            ("cpu.stat", "usage_usec 123\nuser_usec 100\nsystem_usec 23\nnr_periods 0\n"),
            ("cpu.pressure", "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 10\ninactive_file 20\nworkingset_refault_file 3\n"),
            ("memory.events", "low 0\nhigh 0\nmax 5\noom 1\noom_kill 1\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("hugetlb.2MB.current", "4194304\n"),
            ("hugetlb.2MB.max", "max\n"),
            ("hugetlb.2MB.events", "max 3\n"),
            ("hugetlb.1GB.current", "0\n"),
            ("io.stat", "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
        ]);
        let metrics = metrics(&files);
        assert_eq!(metrics.cpu.usage_usec, 123);
        assert_eq!(metrics.cpu.psi.some.total, 77);
        assert!((metrics.cpu.psi.some.avg10 - 1.5).abs() < 1e-9);
        assert_eq!(metrics.memory.usage, 4096);
        assert_eq!(metrics.memory.usage_limit, u64::MAX);
        assert_eq!(metrics.memory.inactive_file, 20);
        assert_eq!(metrics.memory.workingset_refault, 3);
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, 0));
        assert_eq!(metrics.io.usage[0].wios, 4);
        let huge: Vec<_> =
            metrics.hugetlb.iter().map(|one| (&*one.pagesize, one.current)).collect();
        assert_eq!(huge, [("1GB", 0), ("2MB", 4 << 20)]);
        assert_eq!((metrics.hugetlb[1].max, metrics.hugetlb[1].failcnt), (u64::MAX, 3));
        assert_eq!(metrics.memory_events.oom_kill, 1);
    }

    #[test]
    fn nonsense_from_the_guest_counts_as_zero() {
        let files = files(&[
            ("cpu.stat", "usage_usec many\n\0\n"),
            ("memory.current", "-1"),
            ("io.stat", "x:y rbytes=1\n8:0 rbytes=z\n"),
            ("memory.pressure", "some avg10\nwhat ever=1\n"),
        ]);
        let metrics = metrics(&files);
        assert_eq!((metrics.cpu.usage_usec, metrics.memory.usage), (0, 0));
        assert_eq!(metrics.io.usage.len(), 1);
    }
}
