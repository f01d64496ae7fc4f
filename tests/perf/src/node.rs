//! Our own CRI server beside containerd, on the same host in the same run.
//!
//! - How long a pod with one container takes, from RunPodSandbox to the answer of StartContainer,
//!   alone and among others.
//! - What the server itself takes: memory without and with pods, and CPU for lists.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::cri::{ContainerSpec, Cri, Cuddyd, Daemon, Pod, PodSpec, api};
use harness::host;
use serde::Serialize;

use crate::pod::Running;
use crate::results::Results;
use crate::samples::{self, Samples};
use crate::table::Table;

/// The server may take so much memory without pods, and with those that run together, in MiB.
const MEMORY: [f64; 2] = [12.0, 16.0];

/// A start may take so many times containerd's with runc.
const START: f64 = 1.0;

/// Options of `perf node`.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// Pods that are started one after another, after one that warms up. An odd number.
    #[arg(long, default_value_t = 9, value_parser = samples::odd)]
    pods: u32,
    /// Pods that are started at once.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    together: u32,
    /// How often all pods and containers are listed.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    lists: u32,
    /// Directory with the programs of containerd.
    #[arg(long, default_value = "/usr/bin")]
    containerd: PathBuf,
}

/// A CRI server and the runtime of its pods.
#[derive(Debug, Serialize)]
struct Stack {
    who: String,
    /// Seconds of each pod's start, one after another.
    alone: Samples,
    /// Seconds of each pod's start, all at once.
    together: Samples,
    /// Seconds until the last of those ran.
    all: f64,
    /// The server's proportional set size without pods, in MiB.
    without: f64,
    /// The same with those that were started at once.
    with: f64,
    /// CPU for one list of pods and one of containers with those, in milliseconds.
    list: f64,
}

impl NodeArgs {
    /// Measures; whether the targets are met.
    pub(crate) fn run(&self, results: &Results) -> Result<bool> {
        let mut stacks = Vec::new();
        {
            let daemon = Cuddyd::quiet();
            daemon.pull("busybox");
            stacks.push(self.measure("cuddyd", &daemon.cri(), daemon.pid(), "cuddy")?);
        }
        let daemon = Daemon::new(&self.containerd);
        let pid = daemon.pid();
        for handler in ["cuddy", "runc"] {
            let who = format!("containerd {}, {handler}", daemon.version());
            stacks.push(self.measure(&who, &daemon.cri(), pid, handler)?);
            daemon.settled();
        }
        let met = targets(&stacks).iter().all(|(_, value, most)| value <= most);
        results.give("node", &self.table(&stacks), &stacks)?;
        Ok(met)
    }

    fn measure(&self, who: &str, cri: &Cri, server: u32, handler: &str) -> Result<Stack> {
        eprintln!("perf: {who}");
        let without = memory(server);
        let alone = Samples::take(self.pods, || {
            let (seconds, running) = start(cri, handler);
            cri.remove_pod(&running.pod);
            Ok(seconds)
        })?;
        let begin = Instant::now();
        let started = at_once(self.together, || start(cri, handler));
        let all = begin.elapsed().as_secs_f64();
        let (seconds, pods): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        let with = memory(server);
        let list = lists(cri, server, self.lists)?;
        let pods: Vec<Pod> = pods.into_iter().map(|running| running.pod).collect();
        pods.iter().for_each(|pod| cri.remove_pod(pod));
        let (who, together) = (who.to_owned(), seconds.into());
        Ok(Stack { who, alone, together, all, without, with, list })
    }

    fn table(&self, stacks: &[Stack]) -> String {
        let mut table = Table::new(["", "alone p50", "p99", "at once p50", "p99", "all"]);
        for stack in stacks {
            let s = |seconds: f64| format!("{seconds:.3}");
            let [alone, most] = [stack.alone.median(), stack.alone.most()].map(s);
            let [together, slowest] = [stack.together.median(), stack.together.most()].map(s);
            table.row([stack.who.clone(), alone, most, together, slowest, s(stack.all)]);
        }
        let mut server = Table::new(["", "PSS, MiB", "with pods", "a list, ms CPU"]);
        for Stack { who, without, with, list, .. } in stacks {
            let mib = |value: &f64| format!("{value:.1}");
            server.row([who.clone(), mib(without), mib(with), format!("{list:.2}")]);
        }
        let mut verdicts = Table::new(["", "", "target"]);
        for (what, value, most) in targets(stacks) {
            let verdict = if value <= most { "met" } else { "MISSED" };
            verdicts.row([what, format!("{value:.2}"), format!("at most {most}: {verdict}")]);
        }
        let Self { pods, together, .. } = self;
        format!("seconds of a start: {pods} alone, {together} at once\n{table}{server}{verdicts}")
    }
}

/// What is asked of the first stack, beside the last: what, value, the most that it may be.
fn targets(stacks: &[Stack]) -> Vec<(String, f64, f64)> {
    let (Some(ours), Some(theirs)) = (stacks.first(), stacks.last()) else { return Vec::new() };
    let beside = format!("{} / {}", ours.who, theirs.who);
    vec![
        (format!("{beside}, alone"), ours.alone.median() / theirs.alone.median(), START),
        (format!("{beside}, at once"), ours.together.median() / theirs.together.median(), START),
        ("cuddyd without pods, MiB".to_owned(), ours.without, MEMORY[0]),
        ("cuddyd with pods, MiB".to_owned(), ours.with, MEMORY[1]),
    ]
}

/// Starts a pod with a container that sleeps; the seconds until it runs.
fn start(cri: &Cri, handler: &str) -> (f64, Running) {
    let begin = Instant::now();
    let running =
        Running::new(cri, PodSpec::new("node").handler(handler), ContainerSpec::idle("main"));
    (begin.elapsed().as_secs_f64(), running)
}

/// Does `work` so many times at once.
fn at_once<T: Send>(count: u32, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(&work)).collect();
        let done = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        done.map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// The CPU that the server takes for a list of all pods and one of all containers, in milliseconds.
fn lists(cri: &Cri, server: u32, count: u32) -> Result<f64> {
    let before = cpu(server)?;
    for _ in 0..count {
        let mut runtime = cri.runtime_service();
        let pods = runtime.list_pod_sandbox(api::ListPodSandboxRequest::default());
        cri.wait(pods).context("ListPodSandbox")?;
        let mut runtime = cri.runtime_service();
        let containers = runtime.list_containers(api::ListContainersRequest::default());
        cri.wait(containers).context("ListContainers")?;
    }
    Ok((cpu(server)? - before).as_secs_f64() * 1000.0 / f64::from(count))
}

/// The CPU that a process's threads have taken (schedstat, in nanoseconds). A thread that ends
/// takes its time along, so this is for a process whose threads stay.
fn cpu(process: u32) -> Result<Duration> {
    let threads = Path::new("/proc").join(process.to_string()).join("task");
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir(&threads).context("reading the server's threads")? {
        let path = thread?.path().join("schedstat");
        let text = std::fs::read_to_string(&path).context("reading a thread's time")?;
        let first = text.split(' ').next().and_then(|number| number.parse().ok());
        sum += Duration::from_nanos(first.with_context(|| format!("schedstat: {text:?}"))?);
    }
    Ok(sum)
}

fn memory(process: u32) -> f64 {
    f64::from(u32::try_from(host::pss_kib(process)).unwrap_or(u32::MAX)) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(who: &str, seconds: f64, memory: f64) -> Stack {
        Stack {
            who: who.to_owned(),
            alone: vec![seconds].into(),
            together: vec![seconds * 4.0].into(),
            all: seconds * 5.0,
            without: memory,
            with: memory,
            list: 0.1,
        }
    }

    #[test]
    fn a_slower_start_than_containerds_is_missed() {
        let stacks = [stack("cuddyd", 0.5, 13.0), stack("containerd 1.7, runc", 0.4, 40.0)];
        let args = NodeArgs { pods: 1, together: 1, lists: 1, containerd: PathBuf::new() };
        let table = args.table(&stacks);
        let line = |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap();
        assert!(line("cuddyd / containerd 1.7, runc, alone").contains("1.25"), "{table}");
        assert!(line("cuddyd without pods").ends_with("MISSED"), "{table}");
        assert!(line("cuddyd with pods").ends_with("met"), "{table}");
    }
}
