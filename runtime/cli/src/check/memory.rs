//! Memory for at least one machine.

use host::Config;

use super::Check;

const TOPIC: &str = "memory";
const KIB_PER_MIB: u64 = 1024;
/// Size of a machine when the configuration can't tell.
const ASSUMED_MIB: u64 = 640;

pub(super) fn check(config: Option<&Config>) -> Check {
    let machine =
        config.map_or(ASSUMED_MIB, |c| c.default_memory_mib.saturating_add(c.memory_overhead_mib));
    evaluate(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), machine)
}

fn evaluate(meminfo: &str, machine_mib: u64) -> Check {
    let (Some(total), Some(available)) = (mib(meminfo, "MemTotal:"), mib(meminfo, "MemAvailable:"))
    else {
        return Check::warning(TOPIC, "/proc/meminfo can't be read", "Mount /proc.");
    };
    let found = format!("{available} MiB available of {total} MiB");
    if available < machine_mib {
        return Check::warning(
            TOPIC,
            format!("{found}; a machine of default size may use {machine_mib} MiB"),
            "Free memory, or lower default_memory_mib in /etc/cuddy/config.toml.",
        );
    }
    Check::ok(TOPIC, found)
}

fn mib(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with(key))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / KIB_PER_MIB)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const INFO: &str = "MemTotal:        2048000 kB\nMemFree: 1 kB\nMemAvailable:    1024000 kB\n";

    #[test]
    fn a_default_machine_must_fit() {
        let fits = evaluate(INFO, 1000);
        assert_eq!(
            (fits.status, fits.found.as_str()),
            (Status::Ok, "1000 MiB available of 2000 MiB")
        );
        assert_eq!(evaluate(INFO, 1001).status, Status::Warning);
        assert_eq!(evaluate("", 1).status, Status::Warning);
    }
}
