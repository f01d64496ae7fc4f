//! What a pod's sandbox takes beside its containers, idle and after work: the numbers behind the
//! overhead in `deploy/kubernetes/runtimeclass.yaml`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
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

/// The numbers.
#[derive(Debug, Serialize)]
struct Overhead {
    idle: Taken,
    busy: Taken,
    /// Part of one CPU that shim, VMM and guest take when nothing is to be done.
    cpu: f64,
}

impl OverheadArgs {
    /// Measures and tells.
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
        results.give("overhead", &table(&overhead), &overhead)?;
        Ok(true)
    }
}

fn taken(running: &Running) -> Result<Taken> {
    let kernel = memory::of_cgroup(&running.cgroup()?, "kernel")?;
    Ok(Taken { memory: memory::of_sandbox(&running.directory())?, kernel })
}

/// What is told, and how it is found.
type Row = (&'static str, fn(&Taken) -> f64);

fn table(overhead: &Overhead) -> String {
    let Overhead { idle, busy, cpu } = overhead;
    let mut table = Table::new(["MiB", "idle", "after work"]);
    let rows: [Row; 5] = [
        ("shim, PSS", |taken| taken.memory.shim),
        ("VMM without guest memory, PSS", |taken| taken.memory.vmm),
        ("kernel memory in the pod's cgroup", |taken| taken.kernel),
        ("these together", |taken| taken.memory.shim + taken.memory.vmm + taken.kernel),
        ("guest memory touched", |taken| taken.memory.guest),
    ];
    for (what, part) in rows {
        table.row([what.to_owned(), format!("{:.1}", part(idle)), format!("{:.1}", part(busy))]);
    }
    format!("{table}an idle pod takes {:.2} thousandths of a CPU\n", cpu * 1000.0)
}
