//! What a container uses, as the guest's cgroup files tell it (pure). The files are a guest's word:
//! they become numbers of known names when they arrive, and are not kept. What does not parse
//! counts as zero, never as an error.

use std::collections::HashMap;

/// Contents of a container's cgroup files by name, as a guest sends them.
pub type Files = HashMap<String, String>;

/// Most lines of one file that are looked at: a guest can't make the host parse for ever.
const MAX_LINES: usize = 512;

/// Most devices and sizes of huge pages that are told of.
const MAX_ENTRIES: usize = 64;

/// A file of `key value` lines as a struct with a field for each key that is asked for.
macro_rules! counts {
    ($(#[$about:meta])* $name:ident: $($key:ident)*) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = concat!("`", stringify!($key), "` of the kernel's file.")] pub $key: u64,)*
        }

        impl $name {
            fn parse(text: &str) -> Self {
                let mut counts = Self::default();
                for (key, value) in text.lines().take(MAX_LINES).filter_map(|l| l.split_once(' ')) {
                    let value = value.trim().parse().unwrap_or(0);
                    match key {
                        $(stringify!($key) => counts.$key = value,)*
                        _ => {}
                    }
                }
                counts
            }
        }
    };
}

counts! {
    /// `cpu.stat` (kernel's `admin-guide/cgroup-v2`).
    CpuStat: usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec nr_bursts
    burst_usec
}

counts! {
    /// `memory.stat`.
    MemoryStat: anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback
    anon_thp inactive_anon active_anon inactive_file active_file unevictable slab_reclaimable
    slab_unreclaimable pgfault pgmajfault workingset_refault_anon workingset_refault_file
    workingset_activate_anon workingset_activate_file workingset_nodereclaim pgrefill pgscan
    pgsteal pgactivate pgdeactivate pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc
}

counts! {
    /// `memory.events`.
    MemoryEvents: low high max oom oom_kill oom_group_kill
}

counts! {
    /// `hugetlb.<size>.events`.
    HugePageEvents: max
}

/// Use of a resource that has a limit. The largest number stands for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    /// Now.
    pub current: u64,
    /// At most.
    pub max: u64,
    /// The most that it was.
    pub peak: u64,
}

/// Time that processes waited for a resource (kernel's `accounting/psi`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// While some of them waited.
    pub some: Waiting,
    /// While all of them did.
    pub full: Waiting,
}

/// Shares of time in percent over 10, 60 and 300 seconds, and the total in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waiting {
    /// Over 10 seconds.
    pub avg10: f64,
    /// Over 60 seconds.
    pub avg60: f64,
    /// Over 300 seconds.
    pub avg300: f64,
    /// In all.
    pub total: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePages {
    /// The size as the kernel writes it, for instance `2MB`: digits and a unit.
    pub size: String,
    /// Bytes.
    pub level: Level,
    /// What was refused.
    pub events: HugePageEvents,
}

/// What was read from and written to one disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Its major and minor number in the guest.
    pub numbers: (u64, u64),
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Requests to read.
    pub rios: u64,
    /// Requests to write.
    pub wios: u64,
}

/// What the agent counts itself, `cuddy.census` among the files. What it could not count is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Processes.
    pub processes: Option<u64>,
    /// Their open files.
    pub file_descriptors: Option<u64>,
    /// Sockets among those.
    pub sockets: Option<u64>,
    /// How many files the first process may open, by its soft limit.
    pub open_files_limit: Option<u64>,
    /// Bytes that the root file system has for files.
    pub root_bytes: Option<u64>,
    /// Files that it has room for.
    pub root_inodes: Option<u64>,
    /// Files that may still be made.
    pub root_inodes_free: Option<u64>,
}

impl Census {
    fn parse(text: &str) -> Self {
        let mut census = Self::default();
        for (key, value) in text.lines().take(MAX_LINES).filter_map(|line| line.split_once(' ')) {
            let field = match key {
                "processes" => &mut census.processes,
                "file_descriptors" => &mut census.file_descriptors,
                "sockets" => &mut census.sockets,
                "open_files_limit" => &mut census.open_files_limit,
                "root_bytes" => &mut census.root_bytes,
                "root_inodes" => &mut census.root_inodes,
                "root_inodes_free" => &mut census.root_inodes_free,
                _ => continue,
            };
            *field = value.trim().parse().ok();
        }
        census
    }
}

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Processes and threads.
    pub processes: Level,
    /// CPU time.
    pub cpu: CpuStat,
    /// Waiting for CPUs.
    pub cpu_pressure: Pressure,
    /// Memory in bytes.
    pub memory: Level,
    /// Swap in bytes.
    pub swap: Level,
    /// What the memory is used for.
    pub memory_stat: MemoryStat,
    /// What happened at its limits.
    pub memory_events: MemoryEvents,
    /// Waiting for memory.
    pub memory_pressure: Pressure,
    /// Huge pages, by size.
    pub huge_pages: Vec<HugePages>,
    /// Disks.
    pub disks: Vec<DiskUse>,
    /// Waiting for disks.
    pub io_pressure: Pressure,
    /// What the agent counts itself.
    pub census: Census,
}

impl From<&Files> for Usage {
    fn from(files: &Files) -> Self {
        let text = |name: &str| files.get(name).map_or("", String::as_str);
        Self {
            processes: level(files, "pids"),
            cpu: CpuStat::parse(text("cpu.stat")),
            cpu_pressure: pressure(text("cpu.pressure")),
            memory: level(files, "memory"),
            swap: level(files, "memory.swap"),
            memory_stat: MemoryStat::parse(text("memory.stat")),
            memory_events: MemoryEvents::parse(text("memory.events")),
            memory_pressure: pressure(text("memory.pressure")),
            huge_pages: huge_pages(files),
            disks: disks(text("io.stat")),
            io_pressure: pressure(text("io.pressure")),
            census: Census::parse(text("cuddy.census")),
        }
    }
}

/// The files `<name>.current`, `<name>.max` and `<name>.peak`.
fn level(files: &Files, name: &str) -> Level {
    let single = |kind: &str| match files.get(&format!("{name}.{kind}")).map(|text| text.trim()) {
        Some("max") => u64::MAX,
        number => number.and_then(|number| number.parse().ok()).unwrap_or(0),
    };
    Level { current: single("current"), max: single("max"), peak: single("peak") }
}

fn pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines().take(2) {
        let mut words = line.split_whitespace();
        let waiting = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.take(MAX_ENTRIES).filter_map(|word| word.split_once('=')) {
            // A share is one: neither negative, nor infinite, nor no number.
            let number = || value.parse().ok().filter(|share: &f64| !share.is_nan());
            let share = || number().unwrap_or(0.0).clamp(0.0, 100.0);
            match key {
                "avg10" => waiting.avg10 = share(),
                "avg60" => waiting.avg60 = share(),
                "avg300" => waiting.avg300 = share(),
                "total" => waiting.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    pressure
}

/// `hugetlb.<size>.*` for each size that the guest's kernel has. The sizes become names of metrics,
/// so what is no size is left out.
fn huge_pages(files: &Files) -> Vec<HugePages> {
    let size = |name: &'_ String| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
        let digits =
            size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"))?;
        let number = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        number.then(|| size.to_owned())
    };
    let mut sizes: Vec<_> = files.keys().filter_map(size).collect();
    sizes.sort();
    sizes.truncate(MAX_ENTRIES);
    let pages = |size: String| {
        let name = format!("hugetlb.{size}");
        let events = files.get(&format!("{name}.events")).map_or("", String::as_str);
        HugePages { level: level(files, &name), events: HugePageEvents::parse(events), size }
    };
    sizes.into_iter().map(pages).collect()
}

/// `io.stat`: `major:minor key=value …` per device.
fn disks(text: &str) -> Vec<DiskUse> {
    let disk = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let numbers = (major.parse().ok()?, minor.parse().ok()?);
        let mut disk = DiskUse { numbers, ..DiskUse::default() };
        for (key, value) in words.take(MAX_ENTRIES).filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => disk.rbytes = value,
                "wbytes" => disk.wbytes = value,
                "rios" => disk.rios = value,
                "wios" => disk.wios = value,
                _ => {}
            }
        }
        Some(disk)
    };
    text.lines().take(MAX_ENTRIES).filter_map(disk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(list: &[(&str, &str)]) -> Usage {
        let files = list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Usage::from(&files.collect::<Files>())
    }

    #[test]
    fn files_of_a_real_kernel_are_understood() {
        let usage = usage(&[
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
        assert_eq!((usage.cpu.usage_usec, usage.cpu_pressure.some.total), (123, 77));
        assert!((usage.cpu_pressure.some.avg10 - 1.5).abs() < 1e-9);
        assert_eq!((usage.memory.current, usage.memory.max), (4096, u64::MAX));
        let stat = usage.memory_stat;
        assert_eq!((stat.inactive_file, stat.workingset_refault_file), (20, 3));
        assert_eq!((usage.processes.current, usage.processes.max), (3, u64::MAX));
        assert_eq!(usage.disks[0].wios, 4);
        let huge = usage.huge_pages.iter().map(|pages| (&*pages.size, pages.level.current));
        assert_eq!(huge.collect::<Vec<_>>(), [("1GB", 0), ("2MB", 4 << 20)]);
        assert_eq!((usage.huge_pages[1].level.max, usage.huge_pages[1].events.max), (u64::MAX, 3));
        assert_eq!(usage.memory_events.oom_kill, 1);
    }

    #[test]
    fn what_was_not_counted_is_none() {
        let census =
            usage(&[("cuddy.census", "processes 2\nsockets many\nroot_inodes 9\n")]).census;
        assert_eq!((census.processes, census.root_inodes), (Some(2), Some(9)));
        assert_eq!((census.sockets, census.file_descriptors), (None, None));
    }

    #[test]
    fn nonsense_from_the_guest_counts_as_zero_and_is_not_kept() {
        let usage = usage(&[
            ("cpu.stat", "usage_usec many\n\0\n"),
            ("memory.current", "-1"),
            ("memory.events", "oom_kill many\n\0\n"),
            ("io.stat", "x:y rbytes=1\n8:0 rbytes=z\n"),
            ("memory.pressure", "some avg10=inf avg60=NaN avg300=-3\nwhat ever=1\n"),
            ("hugetlb.\n2MB.current", "1"),
            ("hugetlb.99999MB.current", "1"),
            ("hugetlb.evil{label=\"x\"}.current", "1"),
        ]);
        assert_eq!((usage.cpu.usage_usec, usage.memory.current), (0, 0));
        assert_eq!(usage.memory_events.oom_kill, 0);
        assert_eq!((usage.disks.len(), usage.huge_pages.len()), (1, 0));
        let some = usage.memory_pressure.some;
        assert!((0.0..=100.0).contains(&some.avg10), "{some:?}");
        assert!(some.avg60 == 0.0 && some.avg300 == 0.0, "{some:?}");
    }

    #[test]
    fn lists_of_a_guest_have_an_end() {
        let name = |n: usize| format!("hugetlb.{n}MB.current");
        let mut files: Files = (0..9000).map(|n| (name(n), "1".to_owned())).collect();
        files.insert("io.stat".to_owned(), "8:0 rbytes=1\n".repeat(100_000));
        let usage = Usage::from(&files);
        assert_eq!((usage.huge_pages.len(), usage.disks.len()), (MAX_ENTRIES, MAX_ENTRIES));
    }
}
