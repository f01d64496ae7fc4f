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
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::boot::Files;
use host::Host;
use measures::{Better, MEASURES, Measure};

/// Options of `perf devices`.
#[derive(Debug, clap::Args)]
pub(crate) struct DevicesArgs {
    /// Also write the numbers as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure only what has this in its name.
    #[arg(long, default_value = "")]
    only: String,
}

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
    cuddy: f64,
    qemu: f64,
    /// How many times as good Cuddy is.
    ratio: f64,
}

/// A machine's numbers by the name of the measure.
type Numbers = BTreeMap<&'static str, f64>;

impl DevicesArgs {
    /// Measures and prints; fails the program if Cuddy is behind anywhere.
    pub(crate) fn run(&self, clock: &str, files: &Files) -> Result<ExitCode> {
        let mut rows = Vec::new();
        for packets in [Packets::Vmm, Packets::Vhost] {
            let wanted = self.wanted(packets);
            if wanted.is_empty() {
                continue;
            }
            let host = Host::new(&wanted)?;
            let [cuddy, qemu] = [cuddy::run, qemu::run].map(|run| run(files, &host, packets));
            let (cuddy, qemu) = (cuddy.context("cuddy-vmm")?, qemu.context("QEMU microvm")?);
            rows.extend(wanted.iter().filter_map(|measure| row(measure, packets, &cuddy, &qemu)));
        }
        print!("one second is {clock}\n{}", table(&rows));
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")
                .with_context(|| format!("writing {}", path.display()))?;
        }
        let behind = rows.iter().any(|row| row.ratio < 1.0);
        Ok(if behind { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// The measures of one kind of machine; vhost changes nothing but the network.
    fn wanted(&self, packets: Packets) -> Vec<&'static Measure> {
        let wanted = MEASURES.iter().filter(|measure| measure.name.contains(&self.only));
        wanted.filter(|measure| packets == Packets::Vmm || measure.network()).collect()
    }
}

fn row(measure: &Measure, packets: Packets, cuddy: &Numbers, qemu: &Numbers) -> Option<Row> {
    let (cuddy, qemu) = (*cuddy.get(measure.name)?, *qemu.get(measure.name)?);
    let ratio = match measure.better {
        Better::More => cuddy / qemu,
        Better::Less => qemu / cuddy,
    };
    let by = if packets == Packets::Vhost { ", vhost" } else { "" };
    let what = format!("{}{by}", measure.name);
    Some(Row { what, unit: measure.unit, cuddy, qemu, ratio })
}

fn table(rows: &[Row]) -> String {
    let mut text =
        format!("{:<36} {:>10} {:>10}       {:>6}\n", "", "cuddy", "QEMU", "times as good");
    for Row { what, unit, cuddy, qemu, ratio } in rows {
        let verdict = if *ratio < 1.0 { "BEHIND" } else { "" };
        let line =
            format!("{what:<36} {cuddy:>10.1} {qemu:>10.1} {unit:<5} {ratio:>6.2} {verdict}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_latency_is_better_and_more_throughput() {
        let latency = Measure { name: "l", unit: "us", better: Better::Less, ..MEASURES[0] };
        let through = Measure { name: "t", unit: "MB/s", better: Better::More, ..MEASURES[0] };
        let cuddy = Numbers::from([("l", 10.0), ("t", 10.0)]);
        let qemu = Numbers::from([("l", 20.0), ("t", 20.0)]);
        let rows = [&latency, &through].map(|m| row(m, Packets::Vhost, &cuddy, &qemu).unwrap());
        assert_eq!(rows.each_ref().map(|row| row.ratio), [2.0, 0.5]);
        let text = table(&rows);
        assert!(text.contains("l, vhost") && text.lines().last().unwrap().ends_with("BEHIND"));
    }
}
