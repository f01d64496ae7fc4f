//! Memory of a sandbox with one sleeping container: what its two processes cost the host
//! without guest memory, and what the guest has touched of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::request::CUDDY;

const CONTAINER: &str = "perf-memory";

/// Sizes in KiB.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Proportional set size of the shim.
    pub(crate) shim_kib: u64,
    /// Proportional set size of the VMM without guest memory.
    pub(crate) vmm_kib: u64,
    /// Guest memory that has been touched.
    pub(crate) guest_kib: u64,
}

/// Starts a sleeping container, measures, and removes it.
pub(crate) fn measure(image: &str) -> Result<Memory> {
    ctr(&["run", "-d", "--runtime", CUDDY, image, CONTAINER, "sleep", "3600"])?;
    let measured = measure_running();
    ctr(&["task", "delete", "--force", CONTAINER])?;
    ctr(&["containers", "rm", CONTAINER])?;
    measured
}

fn ctr(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ctr").args(arguments).output().context("executing ctr")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("ctr {}: {}", arguments.join(" "), text.trim());
    }
    Ok(())
}

fn measure_running() -> Result<Memory> {
    of_sandbox(&Path::new("/run/cuddy/default").join(CONTAINER))
}

/// Measures the sandbox that has this directory.
pub(crate) fn of_sandbox(directory: &Path) -> Result<Memory> {
    let pid_file = directory.join("vmm.pid");
    let vmm = std::fs::read_to_string(&pid_file)
        .with_context(|| format!("reading {}", pid_file.display()))?;
    let vmm: u32 = vmm.trim().parse().with_context(|| format!("{}", pid_file.display()))?;
    let vmm_maps = Pss::read(vmm)?;
    let shim_maps = Pss::read(parent(vmm)?)?;
    Ok(Memory {
        shim_kib: shim_maps.own_kib,
        vmm_kib: vmm_maps.own_kib,
        guest_kib: vmm_maps.guest_kib,
    })
}

fn parent(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|text| text.trim().parse().ok()).with_context(|| format!("no PPid in {path}"))
}

/// Proportional set size of a process in KiB, guest memory apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pss {
    own_kib: u64,
    guest_kib: u64,
}

impl Pss {
    fn read(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps");
        parse(&std::fs::read_to_string(&path).with_context(|| path.clone())?)
    }
}

/// Adds up the `Pss:` lines of `/proc/PID/smaps` (proc(5)).
fn parse(smaps: &str) -> Result<Pss> {
    let mut sum = Pss::default();
    let mut total = &mut sum.own_kib;
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            let guest = line.contains("/cuddy-guest");
            total = if guest { &mut sum.guest_kib } else { &mut sum.own_kib };
        } else if first == "Pss:" {
            let kib = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
            *total += kib.with_context(|| format!("smaps line {line:?}"))?;
        }
    }
    if sum.own_kib == 0 {
        bail!("smaps holds no Pss");
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_memory_is_counted_apart() {
        let smaps = "\
7f0000000000-7f0010000000 rw-s 00000000 00:01 5    /cuddy-guest (deleted)
Size:             262144 kB
Pss:               40000 kB
Pss_Dirty:         40000 kB
7f1000000000-7f1000100000 r-xp 00000000 fe:00 9    /opt/cuddy/bin/cuddy-vmm
Pss:                 900 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]
Pss:                  20 kB
";
        let expected = Pss { own_kib: 920, guest_kib: 40_000 };
        assert_eq!(parse(smaps).unwrap(), expected);
    }

    #[test]
    fn a_process_without_memory_is_an_error() {
        assert!(parse("").is_err());
    }
}
