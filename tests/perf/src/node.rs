//! Our own CRI server beside containerd, on the same host in the same run.
//!
//! - How long a pod with one container takes, from RunPodSandbox to the answer of StartContainer. It
//!   starts alone, and among others at once.
//! - What the server itself takes of memory, without pods, with many, and after them.

mod report;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use harness::cri::{ContainerSpec, PodSpec};
use serde::Serialize;

use crate::peers::{self, Peer};
use crate::pod::Running;
use crate::results::Results;
use crate::samples::{self, Samples};
use crate::together::{all_cpus, at_once};
use crate::usage::Memory;

/// So many pods of a server may be begun a second time: the lab's emulation breaks a guest in some
/// dozens, see `tests/lab/README.md`. The report tells how many.
const AGAIN: u32 = 3;

/// Options of `perf node` and `perf crowd`.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// Pods that are started one after another, after one that warms up. An odd number.
    #[arg(long, default_value_t = 9, value_parser = samples::odd)]
    pods: u32,
    /// Pods that are started at once; none on a host with one CPU, as when instructions are counted.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=200))]
    together: u32,
    /// Pods with which the memory of cuddyd, and of containerd with runc, is measured; those that
    /// were started at once are among them.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    crowd: u32,
    /// Directory with the programs of containerd.
    #[arg(long)]
    containerd: Option<PathBuf>,
}

/// A CRI server and the runtime of its pods.
#[derive(Debug, Serialize)]
struct Stack {
    who: String,
    handler: &'static str,
    /// Seconds of each pod's start, one after another.
    alone: Samples,
    /// Seconds of each pod's start, all at once.
    together: Samples,
    /// Seconds until the last of those ran.
    all: f64,
    /// Pods that were begun a second time.
    again: u32,
    /// The server's memory before its first pod.
    without: Memory,
    /// The number of pods that `with` is about.
    pods: u32,
    /// The same with these.
    with: Memory,
    /// The same once they are removed.
    after: Memory,
}

impl NodeArgs {
    /// Measures the part `name`; whether the targets are met.
    pub(crate) fn run(&self, name: &str, results: &Results) -> Result<bool> {
        let programs = self.containerd.clone().unwrap_or_else(peers::newest);
        let mut stacks = Vec::new();
        peers::each(&programs, |peer| {
            stacks.push(self.measure(peer)?);
            // A lab that dies with a later one does not take these along.
            results.give(name, &report::table(&stacks), &stacks)
        })?;
        Ok(report::met(&stacks))
    }

    fn measure(&self, peer: &Peer) -> Result<Stack> {
        eprintln!("perf: {}: one after another", peer.who);
        let without = peer.process.memory()?;
        let again = AtomicU32::new(0);
        let alone = Samples::take(self.pods, || {
            let (seconds, running) = start(peer, &again)?;
            peer.cri.try_remove_pod(&running.pod).context("removing a pod")?;
            Ok(seconds)
        })?;
        eprintln!("perf: {}: {} at once", peer.who, self.together);
        let begin = Instant::now();
        let started = at_once(self.together, || start(peer, &again));
        let all = begin.elapsed().as_secs_f64();
        let (seconds, mut pods): (Vec<_>, Vec<_>) =
            started.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
        if report::is_weighed(peer.handler, &peer.who) && self.crowd > self.together {
            eprintln!("perf: {}: {} pods", peer.who, self.crowd);
            let further = (self.together..self.crowd).collect();
            let started = all_cpus(further, |_: u32| start(peer, &again).map(|(_, pod)| pod));
            pods.extend(started.into_iter().collect::<Result<Vec<_>>>()?);
        }
        let with = peer.process.memory()?;
        let count = u32::try_from(pods.len())?;
        eprintln!("perf: {}: removing them", peer.who);
        let removed = all_cpus(pods, |running| peer.cri.try_remove_pod(&running.pod));
        removed.into_iter().collect::<Result<Vec<_>, _>>().context("removing pods")?;
        let after = peer.process.memory()?;
        Ok(Stack {
            who: peer.who.clone(),
            handler: peer.handler,
            alone,
            together: seconds.into(),
            all,
            again: again.into_inner(),
            without,
            pods: count,
            with,
            after,
        })
    }
}

/// Starts a pod with a container that sleeps; the seconds until it runs. `again` counts the pods
/// that are begun a second time, whose first try does not count.
fn start(peer: &Peer, again: &AtomicU32) -> Result<(f64, Running)> {
    loop {
        let pod = PodSpec::new("node").handler(peer.handler);
        let begin = Instant::now();
        match Running::try_new(&peer.cri, pod, ContainerSpec::idle("main")) {
            Ok(running) => return Ok((begin.elapsed().as_secs_f64(), running)),
            Err(error) if again.fetch_add(1, Ordering::Relaxed) < AGAIN => {
                eprintln!("perf: {}: a pod is begun again: {error:#}", peer.who);
            }
            Err(error) => return Err(error.context(peer.who.clone())),
        }
    }
}
