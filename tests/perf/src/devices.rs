//! Disk, share and network, as fast as fio and iperf3 find them in a guest. The guest runs under
//! `cuddy-vmm` and under QEMU's `microvm`, with the same kernel, root filesystem, memory and number
//! of CPUs. The host's end of each is memory: a file on a tmpfs, a directory on it, a program on
//! the other side of a tap.

mod cuddy;
mod guest;
mod host;
mod measures;
mod qemu;
mod tap;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::boot::Files;
use crate::results::Results;
use crate::samples::{self, Samples};
use crate::table::Table;
use host::Host;
use measures::{Better, MEASURES, Measure};

/// A machine that takes longer than this under TCG hangs.
const LIMIT: Duration = Duration::from_secs(200);

/// So many machines that broke may be run again: the emulation of a KVM host breaks guests, whoever's
/// they are (see `tests/lab/README.md`). The report tells which.
const AGAIN: usize = 3;

/// The context of errors that the emulation may have caused: a guest that hung or broke. What a
/// guest says is never one of them.
#[derive(Debug, Clone, Copy)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the machine broke")
    }
}

/// Options of `perf disk`, `perf share` and `perf network`.
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    /// Measure only what has this in its name.
    #[arg(long, default_value = "")]
    only: String,
    /// How often each machine is run, in turn; medians are compared. An odd number.
    #[arg(long, default_value_t = 1, value_parser = samples::odd)]
    rounds: u32,
}

/// How the machines are made; see [`qemu`] for what is alike in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Everything is done by the VMMs.
    Plain,
    /// The host's kernel moves packets between tap and guest, under both.
    Vhost,
    /// QEMU serves its disk from a thread of its own with `io_uring`; Cuddy's is as always.
    IoThread,
}

impl Form {
    const ALL: [Self; 3] = [Self::Plain, Self::Vhost, Self::IoThread];

    /// Whether it makes a difference to what this measures.
    fn concerns(self, measure: &Measure) -> bool {
        match self {
            Self::Plain => true,
            Self::Vhost => measure.name.starts_with("network"),
            Self::IoThread => measure.name.starts_with("disk"),
        }
    }

    /// Behind the names of measures.
    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Vhost => ", vhost",
            Self::IoThread => ", QEMU with I/O thread",
        }
    }
}

/// One number under both.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    cuddy: Samples,
    qemu: Samples,
    /// How many times as good Cuddy is; 1 is the least that it may be.
    ratio: f64,
}

impl Row {
    /// Whether Cuddy is not behind; what is no number is no proof.
    fn level(&self) -> bool {
        self.ratio >= 1.0
    }
}

/// A machine's numbers by the name of the measure.
type Numbers = BTreeMap<&'static str, f64>;

/// What runs a guest, until a time at the latest.
type Run = fn(&Files, &Host, Form, Instant) -> Result<Numbers>;

/// What there is to tell of one kind of device.
#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
    /// Why machines were run again.
    again: Vec<String>,
}

impl DevicesArgs {
    /// Measures one `kind` of device and tells; whether Cuddy is behind nowhere.
    pub(crate) fn run(&self, kind: &str, results: &Results, files: &Files) -> Result<bool> {
        let mut report = Report { rows: Vec::new(), again: Vec::new() };
        for form in Form::ALL {
            let wanted = self.wanted(kind, form);
            if wanted.is_empty() {
                continue;
            }
            let runs = self.rounds(files, &Host::new(&wanted)?, form, &mut report.again)?;
            report.rows.extend(wanted.iter().map(|measure| row(measure, form, &runs)));
        }
        results.give(kind, &table(&report), &report)?;
        Ok(report.rows.iter().all(Row::level))
    }

    /// Runs Cuddy's machine and QEMU's; the numbers of each round.
    fn rounds(
        &self,
        files: &Files,
        host: &Host,
        form: Form,
        again: &mut Vec<String>,
    ) -> Result<[Vec<Numbers>; 2]> {
        let machines: [(&str, Run); 2] = [("cuddy-vmm", cuddy::run), ("QEMU microvm", qemu::run)];
        let mut runs = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            // Neither always has the host as the other left it.
            for turn in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let (name, run) = machines[turn];
                let numbers =
                    persist(name, again, || run(files, host, form, Instant::now() + LIMIT))?;
                runs[turn].push(numbers);
                eprintln!("perf: {name} has run, {form:?}, round {round}");
            }
        }
        Ok(runs)
    }

    /// The measures to which a form makes a difference.
    fn wanted(&self, kind: &str, form: Form) -> Vec<&'static Measure> {
        let of_kind = MEASURES.iter().filter(|measure| measure.name.starts_with(kind));
        let wanted = of_kind.filter(|measure| measure.name.contains(&self.only));
        wanted.filter(|measure| form.concerns(measure)).collect()
    }
}

/// What `run` answers; it is tried again if the machine broke, of which `again` tells.
fn persist<T>(name: &str, again: &mut Vec<String>, run: impl Fn() -> Result<T>) -> Result<T> {
    loop {
        match run() {
            Err(error) if error.is::<Broken>() && again.len() < AGAIN => {
                eprintln!("perf: {name} is run again: {error:#}");
                again.push(format!("{name}: {error:#}"));
            }
            result => return result.with_context(|| name.to_owned()),
        }
    }
}

fn row(measure: &Measure, form: Form, [cuddy, qemu]: &[Vec<Numbers>; 2]) -> Row {
    let of = |runs: &[Numbers]| {
        Samples::from(
            runs.iter().filter_map(|run| run.get(measure.name).copied()).collect::<Vec<_>>(),
        )
    };
    let (cuddy, qemu) = (of(cuddy), of(qemu));
    let ratio = match measure.better {
        Better::More => cuddy.median() / qemu.median(),
        Better::Less => qemu.median() / cuddy.median(),
    };
    let what = format!("{}{}", measure.name, form.suffix());
    Row { what, unit: measure.unit, cuddy, qemu, ratio }
}

fn table(Report { rows, again }: &Report) -> String {
    let mut table = Table::new(["", "cuddy", "QEMU", "", "times as good", ""]);
    for row in rows {
        let verdict = if row.level() { "" } else { "BEHIND" };
        let Row { what, unit, cuddy, qemu, ratio, .. } = row;
        let [cuddy, qemu] = [cuddy, qemu].map(|samples| format!("{:.1}", samples.median()));
        let ratio = format!("{ratio:.2}");
        table.row([what.clone(), cuddy, qemu, (*unit).to_owned(), ratio, verdict.to_owned()]);
    }
    let again: String = again.iter().map(|why| format!("run again: {}\n", why.trim())).collect();
    format!("{table}{again}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_latency_is_better_and_more_throughput() {
        let latency = Measure { name: "l", unit: "us", better: Better::Less, ..MEASURES[0] };
        let through = Measure { name: "t", unit: "MB/s", better: Better::More, ..MEASURES[0] };
        let runs = [10.0, 20.0].map(|n| vec![Numbers::from([("l", n), ("t", n)])]);
        let rows = [&latency, &through].map(|m| row(m, Form::Vhost, &runs));
        assert_eq!(rows.each_ref().map(|row| row.ratio), [2.0, 0.5]);
        let text = table(&Report { rows: rows.into(), again: vec!["QEMU: hung".to_owned()] });
        let lines: Vec<_> = text.lines().rev().take(2).collect();
        assert!(text.contains("l, vhost") && lines[1].ends_with("BEHIND"), "{text}");
        assert_eq!(lines[0], "run again: QEMU: hung");
    }

    #[test]
    fn machines_are_run_again_a_few_times() {
        let mut again = Vec::new();
        let hung = || anyhow::anyhow!("hung");
        assert!(persist("QEMU", &mut again, || Err::<(), _>(hung())).is_err());
        assert_eq!(again.len(), 0);
        let broken = || Err::<(), _>(hung().context(Broken).context("Cuddy"));
        assert!(persist("QEMU", &mut again, broken).is_err());
        assert_eq!(again.len(), AGAIN);
        assert_eq!(again[0], "QEMU: Cuddy: the machine broke: hung");
        assert_eq!(persist("QEMU", &mut again, || Ok(1)).unwrap(), 1);
    }

    #[test]
    fn what_was_not_measured_is_behind() {
        let row = row(&MEASURES[0], Form::Plain, &[Vec::new(), Vec::new()]);
        assert!(!row.level(), "{row:?}");
    }
}
