//! Where the time of a pod's start goes: from RunPodSandbox to the answer of StartContainer, as
//! a client of CRI sees it, with the shim's own steps in between, beside runc in the same run.

mod picture;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use harness::cri::{ContainerSpec, Cri, Daemon, PodSpec};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The shim's notes of a pod, below which its directory is.
const SANDBOXES: &str = "/run/cuddy/k8s.io";

/// Options of `perf timeline`.
#[derive(Debug, clap::Args)]
pub(crate) struct TimelineArgs {
    /// Pods of each kind, after one that warms up; the one of median duration is shown.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pods: u32,
    /// Directory for `timeline.svg` and `timeline.json`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Directory with the programs of containerd.
    #[arg(long, default_value = "/usr/bin")]
    containerd: PathBuf,
}

/// One phase of a start.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Phase {
    /// What went on.
    what: String,
    /// When it began, in seconds after the request.
    begin: f64,
    /// When it ended.
    end: f64,
}

/// A start, phase by phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Start {
    /// The runtime.
    who: String,
    /// In order, without gaps.
    phases: Vec<Phase>,
}

impl Start {
    fn seconds(&self) -> f64 {
        self.phases.last().map_or(0.0, |last| last.end)
    }
}

/// What is kept for programs.
#[derive(Serialize)]
struct Kept<'a> {
    clock: &'a str,
    starts: &'a [Start],
}

impl TimelineArgs {
    /// Measures, prints the table, and writes the files.
    pub(crate) fn run(&self, clock: &str) -> Result<ExitCode> {
        let daemon = Daemon::new(&self.containerd);
        let cri = daemon.cri();
        let starts = [median(&cri, "cuddy", self.pods)?, median(&cri, "runc", self.pods)?];
        daemon.settled();
        let table = table(&starts, clock);
        print!("{table}");
        if let Some(out) = &self.out {
            write(&out.join("timeline.txt"), &table)?;
            write(&out.join("timeline.svg"), &picture::draw(&starts, clock))?;
            let kept = serde_json::to_string_pretty(&Kept { clock, starts: &starts })?;
            write(&out.join("timeline.json"), &(kept + "\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Starts pods one after the other; the start of median duration.
fn median(cri: &Cri, handler: &str, pods: u32) -> Result<Start> {
    start(cri, handler)?;
    let starts: Result<Vec<_>> = (0..pods.max(1)).map(|_| start(cri, handler)).collect();
    let mut starts = starts?;
    starts.sort_by(|a, b| a.seconds().total_cmp(&b.seconds()));
    Ok(starts.swap_remove(starts.len() / 2))
}

/// The clock of the shim's notes, in nanoseconds.
fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn start(cri: &Cri, handler: &str) -> Result<Start> {
    let request = now();
    let pod = cri.run_pod(PodSpec::new("timeline").handler(handler));
    let pod_runs = now();
    let container = cri.create(&pod, ContainerSpec::idle("main"));
    let created = now();
    cri.start(&container);
    let runs = now();
    let notes = std::fs::read_to_string(Path::new(SANDBOXES).join(&pod.id).join("timeline"));
    cri.remove_pod(&pod);
    let asked = Asked { request, pod_runs, created, runs };
    let phases = match notes {
        Ok(notes) => with_steps(&asked, &notes)?,
        Err(_) => asked.phases(),
    };
    Ok(Start { who: handler.to_owned(), phases })
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
    /// What is known of any runtime.
    fn phases(&self) -> Vec<Phase> {
        let ends = [
            ("RunPodSandbox", self.pod_runs),
            ("CreateContainer", self.created),
            ("StartContainer", self.runs),
        ];
        let ends = ends.map(|(what, end)| (what.to_owned(), end));
        phases(self.request, &ends)
    }
}

/// Phases from their ends; what ended before its predecessor took no time.
fn phases(request: i64, ends: &[(String, i64)]) -> Vec<Phase> {
    let mut begin = request;
    let mut found = Vec::new();
    for (what, end) in ends {
        let end = (*end).max(begin);
        found.push(Phase {
            what: what.clone(),
            begin: seconds(begin - request),
            end: seconds(end - request),
        });
        begin = end;
    }
    found
}

/// Nanoseconds as seconds, to the microsecond.
fn seconds(nanoseconds: i64) -> f64 {
    std::time::Duration::from_micros(u64::try_from(nanoseconds / 1000).unwrap_or(0)).as_secs_f64()
}

/// The phases of a start whose shim has noted its steps: lines `NANOSECONDS STEP`.
fn with_steps(asked: &Asked, notes: &str) -> Result<Vec<Phase>> {
    let mut steps = Vec::new();
    for line in notes.lines() {
        let (at, step) = line.split_once(' ').with_context(|| format!("note {line:?}"))?;
        steps.push((at.parse::<i64>().with_context(|| format!("note {line:?}"))?, step));
    }
    let at = |name: &str| {
        let found = steps.iter().find(|(_, step)| step.split(' ').next() == Some(name));
        found.copied().with_context(|| format!("the shim has not noted step {name:?}"))
    };
    let (ready, text) = at("ready")?;
    let boot_us = text.split(' ').nth(1).and_then(|us| us.parse::<i64>().ok());
    let boot_us =
        boot_us.with_context(|| format!("step {text:?} does not tell the boot's time"))?;
    let mut ends = vec![
        ("containerd, CNI, shim executed".to_owned(), at("shim")?.0),
        ("shim serves, pod accepted".to_owned(), at("boot")?.0),
        ("VMM executed, machine made".to_owned(), ready - boot_us * 1000),
        ("guest: kernel and agent".to_owned(), ready),
        ("guest configured".to_owned(), at("configured")?.0),
    ];
    if let Ok((network, _)) = at("network") {
        ends.push(("network in the guest".to_owned(), network));
    }
    ends.extend([
        ("containerd: pod answered".to_owned(), asked.pod_runs),
        ("containerd: container created".to_owned(), asked.created),
        ("containerd: task requested".to_owned(), at("create")?.0),
        ("root file system, volumes".to_owned(), at("rootfs")?.0),
        ("container made in the guest".to_owned(), at("created")?.0),
        ("process started".to_owned(), at("started")?.0),
        ("containerd: start answered".to_owned(), asked.runs),
    ]);
    ensure!(ends.iter().all(|(_, at)| *at > 0), "a step without time");
    Ok(phases(asked.request, &ends))
}

/// For people.
fn table(starts: &[Start], clock: &str) -> String {
    let mut lines = vec![format!("pod start, request to running; one second is {clock}")];
    for start in starts {
        let total = start.seconds();
        for Phase { what, begin, end } in &start.phases {
            let share = (end - begin) / total * 100.0;
            let who = &start.who;
            lines.push(format!("{who:<6} {what:<32} {:>8.4} s {share:>5.1} %", end - begin));
        }
        lines.push(format!("{:<6} {:<32} {total:>8.4} s", start.who, "together"));
    }
    if let [ours, theirs] = starts {
        lines.push(format!(
            "{} / {}: {:.3}",
            ours.who,
            theirs.who,
            ours.seconds() / theirs.seconds()
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked =
        Asked { request: 1_000_000, pod_runs: 9_000_000, created: 10_000_000, runs: 15_000_000 };

    #[test]
    fn steps_become_phases_without_gaps() {
        let notes = "2000000 shim\n2500000 boot\n7000000 ready 3500\n\
                     8000000 configured\n11000000 create\n12000000 rootfs\n13000000 created\n\
                     14000000 started\n";
        let phases = with_steps(&ASKED, notes).unwrap();
        assert_eq!(phases.len(), 12);
        assert_eq!((phases[0].begin, phases[0].end), (0.0, 0.001));
        let kernel = phases.iter().find(|phase| phase.what.contains("kernel")).unwrap();
        assert_eq!((kernel.begin, kernel.end), (0.0025, 0.006));
        assert!(phases.windows(2).all(|pair| pair[0].end == pair[1].begin));
        assert_eq!(phases.last().unwrap().end, 0.014);
    }

    #[test]
    fn a_step_that_is_missing_is_named() {
        let error = with_steps(&ASKED, "2000000 ready 1\n3 boot\n").unwrap_err();
        assert!(error.to_string().contains("\"shim\""), "{error}");
    }

    #[test]
    fn the_table_compares() {
        let start = |who: &str| Start { who: who.to_owned(), phases: ASKED.phases() };
        let table = table(&[start("cuddy"), start("runc")], "wall clock");
        assert!(table.contains("cuddy / runc: 1.000"), "{table}");
        assert!(table.contains("RunPodSandbox"), "{table}");
    }
}
