//! Many pods on one host: they are created, probed and removed through CRI, what each takes is
//! told, and nothing may be left of them.

mod lost;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::cri::{ContainerSpec, Cri, Daemon, PodSpec};
use serde::Serialize;

use crate::memory::{self, Memory};
use crate::pod::Running;
use crate::results::Results;
use crate::samples::Samples;
use crate::table::Table;
use crate::together::all_cpus;
use crate::traces::Traces;

/// So many pods may be begun a second time: the lab's emulation breaks a guest in some dozens,
/// see `tests/lab/README.md`. None may be lost.
const AGAIN: usize = 2;

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

/// A part of a pod's memory.
type Part = fn(&Memory) -> f64;

/// What became of a pod; memory in MiB.
#[derive(Debug, Default, Serialize)]
struct Row {
    pod: u32,
    /// Why it was begun a second time, if it was.
    again: Option<String>,
    /// Why it is not among those that run, if it is not.
    lost: Option<String>,
    #[serde(flatten)]
    memory: Option<Memory>,
}

/// The numbers of a run.
#[derive(Debug, Serialize)]
struct Density {
    pods: Vec<Row>,
    /// How much less memory the host has available, with everything, a pod that runs, in MiB.
    host: f64,
    create_seconds: f64,
    probe_seconds: f64,
}

impl DensityArgs {
    /// Runs the pods and tells of them; whether enough of them were well and are gone.
    pub(crate) fn run(&self, results: &Results) -> Result<bool> {
        let daemon = Daemon::new(&self.containerd);
        let cri = daemon.cri();
        // The first pod makes the bridge, and fills caches.
        cri.remove_pod(&run(&cri)?.pod);
        daemon.settled();
        let before = Traces::of_host(&daemon);
        let (density, pods) = self.measure(&daemon)?;
        // Before anything else that can fail.
        results.give("density", &table(&density), &density)?;
        let begin = Instant::now();
        let failed: Vec<_> = all_cpus(pods, |running| {
            let failed = cri.try_remove_pod(&running.pod).err()?;
            Some(format!("pod {} was not removed: {failed}\n", running.pod.id))
        });
        let failed: Vec<_> = failed.into_iter().flatten().collect();
        let seconds = begin.elapsed().as_secs();
        let removed = format!("removed in {seconds} s, {} failed\n", failed.len());
        results.add("density", &(removed + &failed.concat()))?;
        before.nothing_new(&daemon)?;
        results.add("density", "nothing was left\n")?;
        Ok(density.met() && failed.is_empty())
    }

    /// The numbers, and all pods that are to be removed.
    fn measure(&self, daemon: &Daemon) -> Result<(Density, Vec<Running>)> {
        let cri = &daemon.cri();
        let free = memory::available()?;
        let begin = Instant::now();
        let pods = all_cpus((1..=self.pods).collect(), |n| {
            let started = start(cri, n);
            eprintln!("perf: pod {n} of {} after {} s", self.pods, begin.elapsed().as_secs());
            started
        });
        let create_seconds = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let pods = all_cpus(pods, |(mut row, running)| {
            if let Some(running) = &running
                && let Err(error) = probe(cri, running)
            {
                row.lost = Some(format!("{error:#}; {}", lost::story(daemon, running)));
            }
            (row, running)
        });
        let probe_seconds = begin.elapsed().as_secs_f64();
        // Once all have answered: answering takes memory.
        let mut pods: Vec<_> = pods.into_iter().map(|pod| weigh(daemon, pod)).collect();
        let host = free - memory::available()?;
        pods.sort_by_key(|(row, _)| row.pod);
        let (rows, pods): (Vec<_>, Vec<_>) = pods.into_iter().unzip();
        let mut density = Density { pods: rows, host, create_seconds, probe_seconds };
        density.host /= density.running();
        Ok((density, pods.into_iter().flatten().collect()))
    }
}

impl Density {
    fn lost(&self) -> usize {
        self.pods.iter().filter(|row| row.lost.is_some()).count()
    }

    fn again(&self) -> usize {
        self.pods.iter().filter(|row| row.again.is_some()).count()
    }

    fn met(&self) -> bool {
        self.lost() == 0 && self.again() <= AGAIN
    }

    /// How many run, at least one.
    fn running(&self) -> f64 {
        let running = u32::try_from(self.pods.len() - self.lost()).unwrap_or(u32::MAX);
        f64::from(running.max(1))
    }

    /// A part of the memory of all that run.
    fn memory(&self, part: Part) -> Samples {
        let taken = self.pods.iter().filter_map(|row| row.memory.as_ref());
        taken.map(part).collect::<Vec<_>>().into()
    }
}

/// Starts a pod, at the second try if need be.
fn start(cri: &Cri, pod: u32) -> (Row, Option<Running>) {
    let mut row = Row { pod, ..Row::default() };
    let running = run(cri).or_else(|error| {
        row.again = Some(format!("{error:#}"));
        run(cri)
    });
    let running = running.map_err(|error| row.lost = Some(format!("{error:#}"))).ok();
    (row, running)
}

fn run(cri: &Cri) -> Result<Running> {
    let sleeps = ContainerSpec::new("main", &["sleep", "100000"]);
    Running::try_new(cri, PodSpec::new("density"), sleeps)
}

fn probe(cri: &Cri, running: &Running) -> Result<()> {
    let answer = cri.try_exec_sync(&running.container, &["echo", "there"], 60);
    let answer = answer.context("ExecSync")?;
    ensure!(answer.code == 0 && answer.stdout == "there\n", "ExecSync: {answer:?}");
    Ok(())
}

/// Adds what a pod takes, if it still runs.
fn weigh(daemon: &Daemon, (mut row, running): (Row, Option<Running>)) -> (Row, Option<Running>) {
    if let Some(running) = &running
        && row.lost.is_none()
    {
        match memory::of_sandbox(&running.directory()) {
            Ok(memory) => row.memory = Some(memory),
            Err(error) => {
                row.lost = Some(format!("{error:#}; {}", lost::story(daemon, running)));
            }
        }
    }
    (row, running)
}

fn table(density: &Density) -> String {
    let mut table = Table::new(["MiB a pod", "least", "median", "most"]);
    let parts: [(&str, Part); 4] = [
        ("shim, PSS", |memory| memory.shim),
        ("VMM without guest memory, PSS", |memory| memory.vmm),
        ("guest memory touched", |memory| memory.guest),
        ("together", |memory| memory.shim + memory.vmm + memory.guest),
    ];
    for (what, part) in parts {
        let samples = density.memory(part);
        let [least, median, most] = [samples.least(), samples.median(), samples.most()];
        table.row([what.to_owned(), mib(least), mib(median), mib(most)]);
    }
    let host = "less available on the host".to_owned();
    table.row([host, String::new(), mib(density.host), String::new()]);
    let Density { pods, create_seconds, probe_seconds, .. } = density;
    let verdict = if density.met() { "met" } else { "MISSED" };
    let mut text = format!(
        "{} pods, {} begun again (at most {AGAIN}), {} lost (none): {verdict}\n\
         created in {create_seconds:.0} s, probed in {probe_seconds:.0} s\n{table}",
        pods.len(),
        density.again(),
        density.lost(),
    );
    for Row { pod, again, lost, .. } in pods {
        let reasons = [("was begun again", again), ("was lost", lost)];
        for (what, reason) in reasons {
            text +=
                &reason.as_ref().map_or(String::new(), |why| format!("pod {pod} {what}: {why}\n"));
        }
    }
    text
}

fn mib(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests;
