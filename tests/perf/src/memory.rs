//! Memory as the host accounts it (proc(5), cgroup v2). It is that of a sandbox's two processes
//! without guest memory, that of the guest, or that of the whole host. All sizes are in MiB.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::ctr::{Name, RUNTIME, ctr};
use harness::host::Pss;
use serde::Serialize;

/// What a sandbox takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Memory {
    /// Proportional set size of the shim.
    pub(crate) shim: f64,
    /// Proportional set size of the VMM without guest memory.
    pub(crate) vmm: f64,
    /// Guest memory that has been touched.
    pub(crate) guest: f64,
}

/// Starts a sleeping container, measures, and removes it.
pub(crate) fn measure(image: &str) -> Result<Memory> {
    let name = Name::new("perf-memory");
    ctr(&["run", "--detach", "--runtime", RUNTIME, image, name.as_str(), "sleep", "3600"]).ok();
    let measured = of_sandbox(&Path::new("/run/cuddy/default").join(name.as_str()));
    name.remove();
    measured
}

/// Measures the sandbox that has this directory.
pub(crate) fn of_sandbox(directory: &Path) -> Result<Memory> {
    let vmm = read(&directory.join("vmm.pid"))?;
    let process = Path::new("/proc").join(vmm.trim());
    let shim = number(&read(&process.join("status"))?, "PPid:")?;
    let vmm = proportional(vmm.trim().parse()?)?;
    let shim = proportional(u32::try_from(shim)?)?;
    Ok(Memory { shim: mib(shim.own), vmm: mib(vmm.own), guest: mib(vmm.guest) })
}

/// What the host could still give without swapping.
pub(crate) fn available() -> Result<f64> {
    Ok(mib(number(&read(Path::new("/proc/meminfo"))?, "MemAvailable:")?))
}

/// What is charged to a cgroup as `kind` (`memory.stat`).
pub(crate) fn of_cgroup(cgroup: &Path, kind: &str) -> Result<f64> {
    Ok(mib(number(&read(&cgroup.join("memory.stat"))?, &format!("{kind} "))? / 1024))
}

/// Microseconds of CPU that the processes of a cgroup have taken.
pub(crate) fn cpu_us(cgroup: &Path) -> Result<u64> {
    number(&read(&cgroup.join("cpu.stat"))?, "usage_usec ")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// The number behind `key` in a file of lines `KEY NUMBER …`.
fn number(text: &str, key: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {key} in {text:?}"))
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

fn proportional(pid: u32) -> Result<Pss> {
    let pss = Pss::of(pid).with_context(|| format!("reading the memory of process {pid}"))?;
    ensure!(pss.own > 0, "process {pid} has no memory of its own");
    Ok(pss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_key() {
        assert_eq!(number("MemFree: 1 kB\nMemAvailable:  7 kB\n", "MemAvailable:").unwrap(), 7);
        assert_eq!(number("usage_usec 12\nuser_usec 3\n", "usage_usec ").unwrap(), 12);
        assert!(number("MemFree: 1 kB\n", "MemAvailable:").is_err());
    }
}
