//! How much memory and how many CPUs the host has.

use api::Error;

/// What the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// CPUs that are online; at least 1.
    pub cpus: u32,
}

impl Host {
    /// Reads `/proc/meminfo` and `/sys/devices/system/cpu/online`.
    ///
    /// # Errors
    /// [`Error::Failed`] when the kernel does not tell.
    pub fn read() -> Result<Self, Error> {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let memory_mib = host_memory_mib(&meminfo)
            .ok_or_else(|| Error::Failed("reading the host's memory size".into()))?;
        Ok(Self { memory_mib, cpus: cpus_in(&online).max(1) })
    }
}

/// How many CPUs a list such as `0-3,8` names.
fn cpus_in(list: &str) -> u32 {
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.saturating_add(1))
    };
    list.trim().split(',').filter_map(count).sum()
}

/// The host's memory in MiB out of `/proc/meminfo`.
pub fn host_memory_mib(meminfo: &str) -> Option<u64> {
    mib(meminfo, "MemTotal:")
}

/// What of it can be had without swapping, by the kernel's own estimate.
pub fn available_mib(meminfo: &str) -> Option<u64> {
    mib(meminfo, "MemAvailable:")
}

fn mib(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_mib() {
        let text = "MemTotal:       2048000 kB\nMemFree: 1 kB\nMemAvailable:    1024000 kB\n";
        assert_eq!(host_memory_mib(text), Some(2000));
        assert_eq!(available_mib(text), Some(1000));
        assert_eq!(host_memory_mib(""), None);
    }

    #[test]
    fn cpus_are_counted_over_ranges() {
        assert_eq!([cpus_in("0-3,8\n"), cpus_in("0"), cpus_in("")], [5, 1, 0]);
    }
}
