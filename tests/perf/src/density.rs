//! Many pods on one host: they are created, probed and removed through CRI, what each takes is
//! told, and nothing may be left of them.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use harness::cri::{ContainerSpec, Cri, Daemon, Executed, PodSpec};
use serde::Serialize;

use crate::memory;
use crate::pod::Running;
use crate::results::Results;
use crate::samples::Samples;
use crate::table::Table;
use crate::traces::Traces;

/// One pod of so many may be lost: the lab's emulation breaks a guest now and then, see its README.
const LOST: u32 = 20;

/// Options of `perf density`.
#[derive(Debug, clap::Args)]
pub(crate) struct DensityArgs {
    /// How many pods.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pods: u32,
    /// Directory with the programs of containerd.
    #[arg(long, default_value = "/usr/bin")]
    containerd: PathBuf,
}

/// The numbers of a run; memory in MiB, of all pods.
#[derive(Debug, Serialize)]
struct Density {
    pods: u32,
    /// How many were begun a second time, because the first did not start.
    again: u32,
    /// How many did not answer any more; the numbers are those of the others.
    lost: u32,
    shim: Samples,
    vmm: Samples,
    guest: Samples,
    together: Samples,
    /// How much less memory the host has available, with everything, a pod.
    host: f64,
    create_seconds: f64,
    probe_seconds: f64,
    remove_seconds: f64,
}

impl DensityArgs {
    /// Runs the pods and tells of them.
    pub(crate) fn run(&self, results: &Results) -> Result<bool> {
        let daemon = Daemon::new(&self.containerd);
        let cri = daemon.cri();
        // The first pod makes the bridge, and fills caches.
        cri.remove_pod(&run(&cri)?.pod);
        daemon.settled();
        let before = Traces::of_host();
        let density = self.measure(&cri)?;
        daemon.settled();
        before.nothing_new()?;
        results.give("density", &table(&density), &density)?;
        Ok(density.lost * LOST <= density.pods)
    }

    fn measure(&self, cri: &Cri) -> Result<Density> {
        let free = memory::available()?;
        let begin = Instant::now();
        let again = AtomicU32::new(0);
        let pods = all_cpus((1..=self.pods).collect(), |n| {
            let running = run(cri).or_else(|error| {
                eprintln!("perf: pod {n} is begun again: {error:#}");
                again.fetch_add(1, Ordering::Relaxed);
                run(cri)
            });
            eprintln!("perf: pod {n} of {} after {} s", self.pods, begin.elapsed().as_secs());
            running
        });
        let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
        let create_seconds = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let answers = all_cpus(pods.iter().collect(), |running: &Running| {
            cri.try_exec_sync(&running.container, &["echo", "there"], 60)
        });
        let there = |answer: &Result<Executed, _>| match answer {
            Ok(done) if done.stdout == "there\n" => true,
            other => {
                eprintln!("perf: a pod answered {other:?}");
                false
            }
        };
        let there: Vec<_> = answers.iter().map(there).collect();
        let probe_seconds = begin.elapsed().as_secs_f64();
        let alive = pods.iter().zip(&there).filter(|(_, there)| **there);
        let taken: Result<Vec<_>> =
            alive.map(|(pod, _)| memory::of_sandbox(&pod.directory())).collect();
        let taken = taken?;
        let host = (free - memory::available()?) / f64::from(self.pods);
        let begin = Instant::now();
        all_cpus(pods, |running| cri.remove_pod(&running.pod));
        let of = |part: fn(&memory::Memory) -> f64| {
            Samples::from(taken.iter().map(part).collect::<Vec<_>>())
        };
        Ok(Density {
            pods: self.pods,
            again: again.into_inner(),
            lost: there.iter().map(|there| u32::from(!there)).sum(),
            shim: of(|memory| memory.shim),
            vmm: of(|memory| memory.vmm),
            guest: of(|memory| memory.guest),
            together: of(|memory| memory.shim + memory.vmm + memory.guest),
            host,
            create_seconds,
            probe_seconds,
            remove_seconds: begin.elapsed().as_secs_f64(),
        })
    }
}

/// Does `work` with every item, as many at a time as there are CPUs: kubelet, too, does not wait
/// for one pod before it begins with the next.
fn all_cpus<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let left = Mutex::new(items.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let some = || std::iter::from_fn(next).map(&work).collect::<Vec<_>>();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(some)).collect();
        let done = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        done.flat_map(|done| done.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// A pod with a sleeping container; nothing is left of one that does not start.
fn run(cri: &Cri) -> Result<Running> {
    let pod = cri.try_run_pod(PodSpec::new("density"))?;
    let sleeps = ContainerSpec::new("main", &["sleep", "100000"]);
    let container = cri.try_create(&pod, sleeps).and_then(|container| {
        cri.try_start(&container)?;
        Ok(container)
    });
    match container {
        Ok(container) => Ok(Running { pod, container }),
        Err(error) => {
            cri.remove_pod(&pod);
            Err(error.into())
        }
    }
}

fn table(density: &Density) -> String {
    let Density { shim, vmm, guest, together, .. } = density;
    let mut table = Table::new(["MiB a pod", "least", "median", "most"]);
    for (what, samples) in [
        ("shim, PSS", shim),
        ("VMM without guest memory, PSS", vmm),
        ("guest memory touched", guest),
        ("together", together),
    ] {
        let [least, median, most] = [samples.least(), samples.median(), samples.most()];
        table.row([what.to_owned(), mib(least), mib(median), mib(most)]);
    }
    let host = "less available on the host".to_owned();
    table.row([host, String::new(), mib(density.host), String::new()]);
    let Density { pods, again, lost, create_seconds, probe_seconds, remove_seconds, .. } = density;
    format!(
        "{pods} pods, {again} of them at the second try: created in {create_seconds:.0} s, probed \
         in {probe_seconds:.0} s ({lost} were lost), removed in {remove_seconds:.0} s, nothing \
         left\n{table}"
    )
}

fn mib(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_least_median_and_most() {
        let density = Density {
            pods: 3,
            again: 0,
            lost: 0,
            shim: vec![3.0, 1.0, 2.0].into(),
            vmm: vec![0.5; 3].into(),
            guest: vec![40.0; 3].into(),
            together: vec![43.5, 41.5, 42.5].into(),
            host: 50.5,
            create_seconds: 10.0,
            probe_seconds: 1.0,
            remove_seconds: 2.0,
        };
        let table = table(&density);
        let line = |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap();
        let words: Vec<_> = line("shim").split_whitespace().collect();
        assert_eq!(words[2..], ["1.0", "2.0", "3.0"]);
        assert!(line("together").ends_with("43.5"), "{table}");
        assert!(line("less available").ends_with("50.5"), "{table}");
    }
}
