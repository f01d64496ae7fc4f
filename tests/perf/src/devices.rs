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
use crate::samples::Samples;
use crate::table::Table;
use host::Host;
use measures::{Better, MEASURES, Measure};

/// Options of `perf devices`.
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    /// Measure only what has this in its name.
    #[arg(long, default_value = "")]
    only: String,
    /// How often each machine is run, in turn; medians are compared.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// What counts as equal where the same code of the host's kernel moves the packets of both.
const SAME: f64 = 0.95;

/// Who moves packets between tap and guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Packets {
    Vmm,
    Vhost,
}

/// One number under both.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    cuddy: Samples,
    qemu: Samples,
    /// How many times as good Cuddy is.
    ratio: f64,
    /// The least that the ratio may be.
    at_least: f64,
}

impl Row {
    fn behind(&self) -> bool {
        self.ratio < self.at_least
    }
}

/// A machine's numbers by the name of the measure.
type Numbers = BTreeMap<&'static str, f64>;

impl DevicesArgs {
    /// Measures and tells; whether Cuddy is behind nowhere.
    pub(crate) fn run(&self, results: &Results, files: &Files) -> Result<bool> {
        let mut rows = Vec::new();
        for packets in [Packets::Vmm, Packets::Vhost] {
            let wanted = self.wanted(packets);
            if wanted.is_empty() {
                continue;
            }
            let host = Host::new(&wanted)?;
            let (mut cuddy, mut qemu) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                cuddy.push(cuddy::run(files, &host, packets).context("cuddy-vmm")?);
                eprintln!("perf: cuddy-vmm has run, packets by {packets:?}");
                qemu.push(qemu::run(files, &host, packets).context("QEMU microvm")?);
                eprintln!("perf: QEMU has run");
            }
            rows.extend(wanted.iter().map(|measure| row(measure, packets, [&cuddy, &qemu])));
        }
        results.give("devices", &table(&rows), &rows)?;
        Ok(!rows.iter().any(Row::behind))
    }

    /// The measures of one kind of machine; vhost changes nothing but the network.
    fn wanted(&self, packets: Packets) -> Vec<&'static Measure> {
        let wanted = MEASURES.iter().filter(|measure| measure.name.contains(&self.only));
        wanted.filter(|measure| packets == Packets::Vmm || measure.network()).collect()
    }
}

fn row(measure: &Measure, packets: Packets, [cuddy, qemu]: [&[Numbers]; 2]) -> Row {
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
    let by = if packets == Packets::Vhost { ", vhost" } else { "" };
    let what = format!("{}{by}", measure.name);
    let at_least = if packets == Packets::Vhost { SAME } else { 1.0 };
    Row { what, unit: measure.unit, cuddy, qemu, ratio, at_least }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(["", "cuddy", "QEMU", "", "times as good", ""]);
    for row in rows {
        let verdict = if row.behind() { "BEHIND" } else { "" };
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
        let cuddy = [Numbers::from([("l", 10.0), ("t", 10.0)])];
        let qemu = [Numbers::from([("l", 20.0), ("t", 20.0)])];
        let rows = [&latency, &through].map(|m| row(m, Packets::Vhost, [&cuddy, &qemu]));
        assert_eq!(rows.each_ref().map(|row| row.ratio), [2.0, 0.5]);
        let text = table(&rows);
        assert!(text.contains("l, vhost") && text.lines().last().unwrap().ends_with("BEHIND"));
    }
}
