//! What a cgroup's files say, in either version (the kernel's `admin-guide/cgroup-v2` and
//! `admin-guide/cgroup-v1`). A version has files that the other one has not, so what is there tells
//! which one it is. A file that can't be read says nothing.

use std::path::Path;

/// Limits of memory that are none, in version 1: the greatest multiple of a page, which is 64 KiB at
/// most. Version 2 says `max`.
const UNLIMITED: u64 = i64::MAX as u64 & !0xffff;

/// A limit of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// How many bytes.
    pub bytes: u64,
    /// The file that says so.
    pub file: &'static str,
}

/// A limit of the time on CPUs, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuLimit {
    /// Time on all CPUs together, in each period.
    pub quota: u64,
    /// The period, which is never zero.
    pub period: u64,
}

/// The limit of memory that a cgroup has of its own.
pub fn memory_limit(path: &Path) -> Option<MemoryLimit> {
    ["memory.max", "memory.limit_in_bytes"].into_iter().find_map(|file| {
        let bytes = number(path, file)?;
        (bytes < UNLIMITED).then_some(MemoryLimit { bytes, file })
    })
}

/// The limit of CPUs that a cgroup has of its own.
pub fn cpu_limit(path: &Path) -> Option<CpuLimit> {
    let text = std::fs::read_to_string(path.join("cpu.max"));
    let (quota, period) = match &text {
        Ok(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse().ok()?, period.parse().ok()?)
        }
        // Without a limit the quota is -1.
        Err(_) => (number(path, "cpu.cfs_quota_us")?, number(path, "cpu.cfs_period_us")?),
    };
    (period > 0).then_some(CpuLimit { quota, period })
}

/// The limit of processes and threads that a cgroup has of its own.
pub(super) fn threads(path: &Path) -> Option<u64> {
    number(path, "pids.max")
}

/// How many processes the kernel has killed in it for want of memory. Version 2 counts those of
/// cgroups below as well.
pub(super) fn kills(path: &Path) -> u64 {
    let files = ["memory.events", "memory.oom_control"];
    files.into_iter().find_map(|file| count(path, file, "oom_kill")).unwrap_or(0)
}

/// Whether its limit of memory was met with nothing left to reclaim. Version 1 can't tell that from
/// a limit at which something could be reclaimed.
pub(super) fn met_limit(path: &Path) -> bool {
    let met = count(path, "memory.events", "oom").or_else(|| number(path, "memory.failcnt"));
    met.is_some_and(|times| times > 0)
}

fn number(path: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(path.join(file)).ok()?.trim().parse().ok()
}

/// The number behind `key` in a file that has a key and a number on each line.
fn count(path: &Path, file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path.join(file)).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, count)| count.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(dir.path().join(file), format!("{text}\n")).unwrap();
        }
        dir
    }

    #[test]
    fn both_versions_tell_memory_and_its_absence() {
        for (file, text, bytes) in [
            ("memory.max", "4096", Some(4096)),
            ("memory.max", "max", None),
            ("memory.limit_in_bytes", "4096", Some(4096)),
            ("memory.limit_in_bytes", "9223372036854771712", None),
            ("memory.limit_in_bytes", "9223372036854710272", None),
            ("memory.stat", "4096", None),
        ] {
            let dir = with(&[(file, text)]);
            let expected = bytes.map(|bytes| MemoryLimit { bytes, file });
            assert_eq!(memory_limit(dir.path()), expected, "{file}: {text}");
        }
    }

    #[test]
    fn both_versions_tell_cpus_and_their_absence() {
        let limit = |quota, period| Some(CpuLimit { quota, period });
        let old =
            |quota, period| with(&[("cpu.cfs_quota_us", quota), ("cpu.cfs_period_us", period)]);
        assert_eq!(cpu_limit(old("150000", "100000").path()), limit(150_000, 100_000));
        assert_eq!(cpu_limit(old("-1", "100000").path()), None);
        assert_eq!(cpu_limit(old("1", "0").path()), None);
        assert_eq!(
            cpu_limit(with(&[("cpu.max", "150000 100000")]).path()),
            limit(150_000, 100_000)
        );
        assert_eq!(cpu_limit(with(&[("cpu.max", "max 100000")]).path()), None);
        assert_eq!(cpu_limit(with(&[]).path()), None);
    }

    #[test]
    fn both_versions_tell_what_was_killed_and_which_limit_was_met() {
        let new = with(&[("memory.events", "max 5\noom 0\noom_kill 2")]);
        assert_eq!((kills(new.path()), met_limit(new.path())), (2, false));
        let old = with(&[
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3"),
            ("memory.failcnt", "17"),
        ]);
        assert_eq!((kills(old.path()), met_limit(old.path())), (3, true));
        let none = with(&[]);
        assert_eq!((kills(none.path()), met_limit(none.path())), (0, false));
    }
}
