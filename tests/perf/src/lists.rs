//! Many pods that are listed each second, as a kubelet does: the CPU of our own CRI server beside
//! containerd's.
//!
//! So many machines do not fit into the lab. The pods run by runc under both, in the node's network;
//! each has one container, which is created and not started. A list does not tell a difference: both
//! servers answer from what they know.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::cri::{ContainerSpec, Cri, Cuddyd, Daemon, Pod, PodSpec, api, bridge};
use serde::Serialize;

use crate::peers;
use crate::results::Results;
use crate::table::Table;
use crate::together::all_cpus;
use crate::usage::{Memory, Server};

/// What gives our server a handler for runc's shim.
const RUNC: &str = "[handlers.runc]\nruntime_type = 'io.containerd.runc.v2'\n";

/// How often a kubelet lists.
const SECOND: Duration = Duration::from_secs(1);

/// Options of `perf lists`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListsArgs {
    /// How many pods.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pods: u32,
    /// How often all pods and containers are listed.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    lists: u32,
    /// Directory with the programs of containerd.
    #[arg(long)]
    containerd: Option<PathBuf>,
}

/// A CRI server with its pods.
#[derive(Debug, Serialize)]
struct Row {
    who: String,
    pods: u32,
    /// CPU in thousandths of one, while nobody asks it anything.
    idle: f64,
    /// The same while all pods and all containers are listed each second.
    listing: f64,
    /// The longest that a client waited for both lists, in seconds.
    slowest: f64,
    memory: Memory,
}

impl ListsArgs {
    /// Measures and tells.
    pub(crate) fn run(&self, results: &Results) -> Result<bool> {
        let mut servers = Vec::new();
        {
            let daemon = Cuddyd::quiet(RUNC);
            daemon.pull("busybox");
            servers.push(self.measure("cuddyd", &daemon.cri(), Server(daemon.pid()))?);
        }
        let programs = self.containerd.clone().unwrap_or_else(peers::newest);
        let daemon = Daemon::with(&programs, bridge, "");
        let who = format!("containerd {}", daemon.version());
        servers.push(self.measure(&who, &daemon.cri(), Server(daemon.pid()))?);
        results.give("lists", &table(&servers), &servers)?;
        Ok(true)
    }

    fn measure(&self, who: &str, cri: &Cri, process: Server) -> Result<Row> {
        let begin = Instant::now();
        let made = all_cpus((1..=self.pods).collect(), |number: u32| {
            let pod = pod(cri);
            if number.is_multiple_of(25) {
                eprintln!("perf: {who}: pod {number} after {} s", begin.elapsed().as_secs());
            }
            pod
        });
        let pods = made.into_iter().collect::<Result<Vec<_>>>()?;
        let idle = cpu(process, self.lists, || Ok(()))?;
        let mut slowest = 0.0_f64;
        let listing = cpu(process, self.lists, || {
            let begin = Instant::now();
            list(cri, pods.len())?;
            slowest = slowest.max(begin.elapsed().as_secs_f64());
            Ok(())
        })?;
        let memory = process.memory()?;
        eprintln!("perf: {who}: removing them");
        let removed = all_cpus(pods, |pod| cri.try_remove_pod(&pod));
        removed.into_iter().collect::<Result<Vec<_>, _>>().context("removing pods")?;
        let (who, pods) = (who.to_owned(), self.pods);
        Ok(Row { who, pods, idle, listing, slowest, memory })
    }
}

/// A pod with a container that is not started.
fn pod(cri: &Cri) -> Result<Pod> {
    let mut spec = PodSpec::new("lists").handler("runc");
    spec.namespaces().set_network(api::NamespaceMode::Node);
    let pod = cri.try_run_pod(spec).context("RunPodSandbox")?;
    cri.try_create(&pod, ContainerSpec::new("main", &["true"])).context("CreateContainer")?;
    Ok(pod)
}

/// The CPU that the server takes, in thousandths of one, while `work` is done each second.
fn cpu(process: Server, times: u32, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let (before, begin) = (process.cpu()?, Instant::now());
    for number in 1..=times {
        work()?;
        std::thread::sleep((SECOND * number).saturating_sub(begin.elapsed()));
    }
    let taken = process.cpu()? - before;
    Ok(taken.as_secs_f64() / begin.elapsed().as_secs_f64() * 1000.0)
}

fn list(cri: &Cri, count: usize) -> Result<()> {
    let mut runtime = cri.runtime_service();
    let pods = runtime.list_pod_sandbox(api::ListPodSandboxRequest::default());
    let pods = cri.wait(pods).context("ListPodSandbox")?.items.len();
    let mut runtime = cri.runtime_service();
    let containers = runtime.list_containers(api::ListContainersRequest::default());
    let containers = cri.wait(containers).context("ListContainers")?.containers.len();
    ensure!(pods == count && containers == count, "{pods} pods and {containers} containers listed");
    Ok(())
}

fn table(servers: &[Row]) -> String {
    let mut table =
        Table::new(["", "pods", "CPU idle, ‰", "listing, ‰", "slowest, ms", "PSS, MiB"]);
    for Row { who, pods, idle, listing, slowest, memory } in servers {
        table.row([
            who.clone(),
            pods.to_string(),
            format!("{idle:.1}"),
            format!("{listing:.1}"),
            format!("{:.0}", slowest * 1000.0),
            format!("{:.1}", memory.all),
        ]);
    }
    table.to_string()
}
