//! What a pod's sandbox takes beside its containers, idle and after work: the numbers behind the
//! overhead in `deploy/kubernetes/runtimeclass.yaml`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::cri::{ContainerSpec, Daemon, PodSpec};
use serde::Serialize;

use crate::memory::{self, Memory};
use crate::pod::{self, Running};
use crate::results::Results;
use crate::table::Table;

/// How long an idle pod is looked at.
const IDLE: Duration = Duration::from_secs(30);

/// Work that fills what the shim and the VMM keep: files that the guest knows, data that goes
/// through the share, output.
const WORK: &str = "mkdir /many; i=0; \
    while [ $i -lt 1000 ]; do : >/many/$i; i=$((i + 1)); done; ls -l /many; \
    dd if=/dev/zero of=/large bs=1M count=16; cat /large >/dev/null; \
    head -c 4194304 /large; rm -r /many /large";

/// Processes that are run beside the work.
const EXECS: u32 = 20;

/// The class that pods name.
const CLASS: &str = include_str!("../../../deploy/kubernetes/runtimeclass.yaml");

/// What of the announced memory is the guest's own (`memory_overhead_mib`), in MiB.
const GUEST: f64 = 128.0;

/// The most that shim, VMM and kernel may take after work, in MiB.
const AT_MOST: f64 = 12.0;

/// Options of `perf overhead`.
#[derive(Debug, clap::Args)]
pub(crate) struct OverheadArgs {
    /// Directory with the programs of containerd.
    #[arg(long, default_value = "/usr/bin")]
    containerd: PathBuf,
}

/// What a pod takes at a time, in MiB.
#[derive(Debug, Serialize)]
struct Taken {
    #[serde(flatten)]
    memory: Memory,
    /// What the kernel keeps for it: page tables, KVM's own, sockets, pipes.
    kernel: f64,
}

impl Taken {
    /// What is taken beside the guest's memory.
    fn together(&self) -> f64 {
        self.memory.shim + self.memory.vmm + self.kernel
    }
}

/// The numbers.
#[derive(Debug, Serialize)]
struct Overhead {
    idle: Taken,
    busy: Taken,
    /// Part of one CPU that shim, VMM and guest take when nothing is to be done.
    cpu: f64,
}

impl OverheadArgs {
    /// Measures and tells; whether it is no more than it may be and the class announces.
    pub(crate) fn run(&self, results: &Results) -> Result<bool> {
        let daemon = Daemon::new(&self.containerd);
        let cri = daemon.cri();
        let sleeps = ContainerSpec::new("main", &["sleep", "100000"]);
        let running = Running::new(&cri, PodSpec::new("overhead"), sleeps);
        let cpu = pod::cpu(&running.cgroup()?, IDLE)?;
        let idle = taken(&running)?;
        cri.exec_sync(&running.container, &["sh", "-c", WORK]).ok();
        for _ in 0..EXECS {
            cri.exec_sync(&running.container, &["true"]).ok();
        }
        let busy = taken(&running)?;
        cri.remove_pod(&running.pod);
        daemon.settled();
        let overhead = Overhead { idle, busy, cpu };
        let most = [announced("memory: ", "Mi")?, announced("cpu: ", "m")?];
        results.give("overhead", &table(&overhead, most), &overhead)?;
        Ok(overhead.met(most))
    }
}

impl Overhead {
    /// `memory` in MiB and `cpu` in thousandths are what the class announces.
    fn met(&self, [memory, cpu]: [f64; 2]) -> bool {
        let together = self.busy.together();
        together <= AT_MOST && GUEST + together <= memory && self.cpu * 1000.0 <= cpu
    }
}

/// The number behind `key` and before `unit` in the class.
fn announced(key: &str, unit: &str) -> Result<f64> {
    let line = CLASS.lines().find_map(|line| line.trim_start().strip_prefix(key));
    let number = line.and_then(|line| line.strip_suffix(unit)?.parse().ok());
    number.with_context(|| format!("the class announces no {key}"))
}

fn taken(running: &Running) -> Result<Taken> {
    let kernel = memory::of_cgroup(&running.cgroup()?, "kernel")?;
    Ok(Taken { memory: memory::of_sandbox(&running.directory())?, kernel })
}

/// What is told, and how it is found.
type Row = (&'static str, fn(&Taken) -> f64);

fn table(overhead: &Overhead, most: [f64; 2]) -> String {
    let Overhead { idle, busy, cpu } = overhead;
    let mut table = Table::new(["MiB", "idle", "after work"]);
    let rows: [Row; 5] = [
        ("shim, PSS", |taken| taken.memory.shim),
        ("VMM without guest memory, PSS", |taken| taken.memory.vmm),
        ("kernel memory in the pod's cgroup", |taken| taken.kernel),
        ("these together", Taken::together),
        ("guest memory touched", |taken| taken.memory.guest),
    ];
    for (what, part) in rows {
        table.row([what.to_owned(), format!("{:.1}", part(idle)), format!("{:.1}", part(busy))]);
    }
    let verdict = if overhead.met(most) { "met" } else { "MISSED" };
    let [memory, milli] = most;
    format!(
        "{table}an idle pod takes {:.2} thousandths of a CPU\n\
         at most {AT_MOST} MiB together after work, {memory} with {GUEST} for the guest, and \
         {milli} thousandths of a CPU: {verdict}\n",
        cpu * 1000.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_class_announces_is_the_limit() {
        let most = [announced("memory: ", "Mi").unwrap(), announced("cpu: ", "m").unwrap()];
        let taken = |shim| Taken { memory: Memory { shim, vmm: 2.0, guest: 60.0 }, kernel: 1.0 };
        let overhead = |shim, cpu| Overhead { idle: taken(4.0), busy: taken(shim), cpu };
        assert!(overhead(4.5, 0.0005).met(most));
        assert!(!overhead(9.5, 0.0005).met(most));
        assert!(!overhead(4.5, 0.01).met(most));
        assert!(!overhead(4.5, 0.0005).met([135.0, 1.0]));
        assert!(table(&overhead(9.5, 0.0005), most).contains("MISSED"));
    }
}
