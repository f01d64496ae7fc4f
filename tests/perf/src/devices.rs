//! Disk, share and network, as fast as fio and iperf3 find them in a guest: under `cuddy-vmm` and
//! under QEMU's `microvm`, with the same kernel, root filesystem, memory and number of CPUs. The
//! host's end of each is memory: a file on a tmpfs, a directory on it, a program on the other
//! side of a tap.

mod cuddy;
mod guest;
mod host;
mod measures;
mod qemu;
mod tap;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::boot::Files;
use crate::results::Results;
use crate::samples::{self, Samples};
use crate::table::Table;
use host::Host;
use measures::{Better, MEASURES, Measure};

/// Options of `perf devices`.
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

/// What runs a guest.
type Run = fn(&Files, &Host, Form) -> Result<Numbers>;

impl DevicesArgs {
    /// Measures and tells; whether Cuddy is behind nowhere.
    pub(crate) fn run(&self, results: &Results, files: &Files) -> Result<bool> {
        let mut rows = Vec::new();
        for form in Form::ALL {
            let wanted = self.wanted(form);
            if wanted.is_empty() {
                continue;
            }
            let runs = self.rounds(files, &Host::new(&wanted)?, form)?;
            rows.extend(wanted.iter().map(|measure| row(measure, form, &runs)));
        }
        results.give("devices", &table(&rows), &rows)?;
        Ok(rows.iter().all(Row::level))
    }

    /// Runs Cuddy's machine and QEMU's; the numbers of each round.
    fn rounds(&self, files: &Files, host: &Host, form: Form) -> Result<[Vec<Numbers>; 2]> {
        let machines: [(&str, Run); 2] = [("cuddy-vmm", cuddy::run), ("QEMU microvm", qemu::run)];
        let mut runs = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            // Neither always has the host as the other left it.
            for turn in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let (name, run) = machines[turn];
                runs[turn].push(run(files, host, form).context(name)?);
                eprintln!("perf: {name} has run, {form:?}, round {round}");
            }
        }
        Ok(runs)
    }

    /// The measures to which a form makes a difference.
    fn wanted(&self, form: Form) -> Vec<&'static Measure> {
        let wanted = MEASURES.iter().filter(|measure| measure.name.contains(&self.only));
        wanted.filter(|measure| form.concerns(measure)).collect()
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

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(["", "cuddy", "QEMU", "", "times as good", ""]);
    for row in rows {
        let verdict = if row.level() { "" } else { "BEHIND" };
        let Row { what, unit, cuddy, qemu, ratio, .. } = row;
        let [cuddy, qemu] = [cuddy, qemu].map(|samples| format!("{:.1}", samples.median()));
        let ratio = format!("{ratio:.2}");
        table.row([what.clone(), cuddy, qemu, (*unit).to_owned(), ratio, verdict.to_owned()]);
    }
    table.to_string()
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
        let text = table(&rows);
        assert!(text.contains("l, vhost") && text.lines().last().unwrap().ends_with("BEHIND"));
    }

    #[test]
    fn what_was_not_measured_is_behind() {
        let row = row(&MEASURES[0], Form::Plain, &[Vec::new(), Vec::new()]);
        assert!(!row.level(), "{row:?}");
    }
}
