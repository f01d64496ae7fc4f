//! Where the time of a pod's start goes, from RunPodSandbox to the answer of StartContainer. It is
//! the time that a client of CRI sees, with the shim's own steps in between. The same run measures
//! a machine under our own server and under containerd, and runc beside them.

mod notes;
mod picture;

use std::path::PathBuf;

use anyhow::Result;
use harness::cri::{ContainerSpec, Cri, Cuddyd, Daemon, PodSpec};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::pod;
use crate::results::Results;
use crate::samples;
use crate::table::Table;

/// Options of `perf timeline`.
#[derive(Debug, clap::Args)]
pub(crate) struct TimelineArgs {
    /// Pods of each kind, after one that warms up; the one of median duration is shown. An odd
    /// number.
    #[arg(long, default_value_t = 5, value_parser = samples::odd)]
    pods: u32,
    /// Directory with the programs of containerd.
    #[arg(long, default_value = "/usr/bin")]
    containerd: PathBuf,
}

/// Whose work a phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum By {
    /// All that the client waits for.
    Call,
    /// The server and what it executes.
    Server,
    /// The shim and the VMM.
    Host,
    Guest,
}

/// One phase of a start.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Phase {
    /// What went on.
    what: &'static str,
    by: By,
    /// When it began, in seconds after the request.
    begin: f64,
    /// When it ended.
    end: f64,
}

/// Who starts what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Our own server, a machine.
    Cuddyd,
    /// containerd, a machine.
    Containerd,
    /// containerd, runc.
    Runc,
}

impl Kind {
    fn who(self) -> &'static str {
        match self {
            Self::Cuddyd => "cuddyd",
            Self::Containerd => "containerd, cuddy",
            Self::Runc => "containerd, runc",
        }
    }

    fn handler(self) -> &'static str {
        match self {
            Self::Cuddyd | Self::Containerd => "cuddy",
            Self::Runc => "runc",
        }
    }

    /// The name under which the shim keeps its pods.
    fn namespace(self) -> &'static str {
        match self {
            Self::Cuddyd => "cuddy.cri",
            Self::Containerd | Self::Runc => "k8s.io",
        }
    }
}

/// A start.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Start {
    /// Server and runtime.
    who: &'static str,
    /// The client's calls, in order and without gaps.
    calls: Vec<Phase>,
    /// The same time, step by step, if the runtime tells of its steps.
    steps: Vec<Phase>,
}

impl Start {
    fn seconds(&self) -> f64 {
        self.calls.last().map_or(0.0, |last| last.end)
    }
}

impl TimelineArgs {
    /// Measures and tells.
    pub(crate) fn run(&self, results: &Results) -> Result<bool> {
        let mut starts = Vec::new();
        {
            let daemon = Cuddyd::quiet("");
            daemon.pull("busybox");
            starts.push(median(&daemon.cri(), Kind::Cuddyd, self.pods)?);
            results.give("timeline", &table(&starts), &starts)?;
        }
        let daemon = Daemon::new(&self.containerd);
        for kind in [Kind::Containerd, Kind::Runc] {
            starts.push(median(&daemon.cri(), kind, self.pods)?);
            // A lab that dies with a later one does not take these along.
            results.give("timeline", &table(&starts), &starts)?;
        }
        daemon.settled();
        results.write("timeline.svg", &picture::draw(&starts, &results.clock))?;
        Ok(true)
    }
}

/// Starts pods one after the other; the start of median duration.
fn median(cri: &Cri, kind: Kind, pods: u32) -> Result<Start> {
    start(cri, kind)?;
    let starts: Result<Vec<_>> = (0..pods.max(1)).map(|_| start(cri, kind)).collect();
    let mut starts = starts?;
    starts.sort_by(|a, b| a.seconds().total_cmp(&b.seconds()));
    Ok(starts.swap_remove(starts.len() / 2))
}

/// The clock of the shim's notes, in nanoseconds.
fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn start(cri: &Cri, kind: Kind) -> Result<Start> {
    let request = now();
    let pod = cri.run_pod(PodSpec::new("timeline").handler(kind.handler()));
    let pod_runs = now();
    let container = cri.create(&pod, ContainerSpec::idle("main"));
    let created = now();
    cri.start(&container);
    let runs = now();
    let notes = std::fs::read_to_string(pod::directory(kind.namespace(), &pod).join("timeline"));
    cri.remove_pod(&pod);
    let asked = Asked { request, pod_runs, created, runs };
    let steps = notes.ok().map(|notes| notes::steps(kind, &asked, &notes)).transpose()?;
    Ok(Start { who: kind.who(), calls: asked.calls(), steps: steps.unwrap_or_default() })
}

/// When the client asked and was answered, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Asked {
    request: i64,
    pod_runs: i64,
    created: i64,
    runs: i64,
}

impl Asked {
    fn calls(&self) -> Vec<Phase> {
        let ends = [
            ("RunPodSandbox", By::Call, self.pod_runs),
            ("CreateContainer", By::Call, self.created),
            ("StartContainer", By::Call, self.runs),
        ];
        phases(self.request, &ends)
    }
}

/// Phases from their ends; what ended before its predecessor took no time.
fn phases(request: i64, ends: &[(&'static str, By, i64)]) -> Vec<Phase> {
    let mut last = request;
    let mut found = Vec::new();
    for &(what, by, end) in ends {
        let end = end.max(last);
        found.push(Phase { what, by, begin: seconds(last - request), end: seconds(end - request) });
        last = end;
    }
    found
}

/// Nanoseconds as seconds, to the microsecond.
fn seconds(nanoseconds: i64) -> f64 {
    std::time::Duration::from_micros(u64::try_from(nanoseconds / 1000).unwrap_or(0)).as_secs_f64()
}

/// For people.
fn table(starts: &[Start]) -> String {
    let mut table = Table::new(["pod start, request to running", "ms", "part"]);
    for start in starts {
        let total = start.seconds();
        let mut row = |what: String, seconds: f64| {
            let (ms, part) = (seconds * 1000.0, seconds / total * 100.0);
            table.row([what, format!("{ms:.1}"), format!("{part:.1} %")]);
        };
        row(start.who.to_owned(), total);
        for (indent, phases) in [("  ", &start.calls), ("    ", &start.steps)] {
            for Phase { what, begin, end, .. } in phases {
                row(format!("{indent}{what}"), end - begin);
            }
        }
    }
    let runc = starts.iter().find(|start| start.who == Kind::Runc.who());
    if let Some(theirs) = runc {
        for ours in starts.iter().filter(|start| start.who != theirs.who) {
            let ratio = format!("{:.3}", ours.seconds() / theirs.seconds());
            table.row([format!("{} / {}", ours.who, theirs.who), ratio]);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_compares() {
        let asked =
            Asked { request: 1_000_000, pod_runs: 9_000_000, created: 9_500_000, runs: 11_000_000 };
        let start = |who| Start { who, calls: asked.calls(), steps: Vec::new() };
        let table = table(&[start("cuddyd"), start("containerd, runc")]);
        assert!(!super::table(&[start("cuddyd"), start("containerd, cuddy")]).contains(" / "));
        let line = |what: &str| table.lines().find(|line| line.trim().starts_with(what)).unwrap();
        assert!(line("cuddyd / containerd, runc").ends_with("1.000"), "{table}");
        assert!(line("RunPodSandbox").ends_with(" 8.0   80.0 %"), "{table}");
    }
}
