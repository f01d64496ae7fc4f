//! The first numbers of one sandbox: cold boot beside QEMU's, request to first output beside
//! runc's, and memory, as rows that know their target.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::boot::{self, Files};
use crate::results::Results;
use crate::samples::{self, Samples};
use crate::table::Table;
use crate::{memory, request};

/// Options of `perf start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Measured runs of each kind, after one run that warms up. An odd number.
    #[arg(long, default_value_t = 5, value_parser = samples::odd)]
    runs: u32,
    /// Image that `ctr` runs; must be imported.
    #[arg(long, default_value = harness::ctr::BUSYBOX)]
    image: String,
}

impl StartArgs {
    /// Measures; whether all targets are met.
    pub(crate) fn run(&self, results: &Results, files: &Files) -> Result<bool> {
        let mut rows = Vec::new();
        // What is measured later does not take along what is there if it fails.
        let mut keep = |more: Vec<Row>| {
            rows.extend(more);
            results.give("start", &table(&rows), &rows)
        };
        let boot = boot::measure(files, self.runs)?;
        keep(vec![
            Row::seconds("boot to agent ready, cuddy-vmm", &boot.cuddy),
            Row::seconds("boot to agent ready, QEMU microvm", &boot.qemu),
            Row::of("boot, cuddy-vmm / QEMU", ratio(&boot.cuddy, &boot.qemu), "", Some(0.7)),
        ])?;
        let request = request::measure(&self.image, self.runs)?;
        keep(vec![
            Row::seconds("ctr run to first output, cuddy", &request.cuddy),
            Row::seconds("ctr run to first output, runc", &request.runc),
            Row::of("ctr run, cuddy / runc", ratio(&request.cuddy, &request.runc), "", None),
        ])?;
        let memory = memory::measure(&self.image)?;
        keep(vec![
            Row::of("shim, PSS", memory.shim, "MiB", Some(6.0)),
            Row::of("VMM without guest memory, PSS", memory.vmm, "MiB", Some(4.0)),
            Row::of("guest memory touched, idle", memory.guest, "MiB", None),
        ])?;
        Ok(rows.iter().all(Row::met))
    }
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// All measured runs, if there was more than one.
    runs: Option<Samples>,
    /// The most that the value may be; none: reported only.
    at_most: Option<f64>,
}

impl Row {
    fn of(what: &'static str, value: f64, unit: &'static str, at_most: Option<f64>) -> Self {
        Self { what, value, unit, runs: None, at_most }
    }

    fn seconds(what: &'static str, runs: &Samples) -> Self {
        let (value, runs) = (runs.median(), Some(runs.clone()));
        Self { what, value, unit: "s", runs, at_most: None }
    }

    fn met(&self) -> bool {
        self.at_most.is_none_or(|limit| self.value <= limit)
    }
}

fn ratio(of: &Samples, to: &Samples) -> f64 {
    of.median() / to.median()
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(["", "median", "", "least", "most", "target"]);
    for row in rows {
        let end = |pick: fn(&Samples) -> f64| {
            row.runs.as_ref().map(|runs| format!("{:.3}", pick(runs))).unwrap_or_default()
        };
        let verdict = if row.met() { "met" } else { "MISSED" };
        let target = row.at_most.map(|limit| format!("at most {limit}: {verdict}"));
        table.row([
            row.what.to_owned(),
            format!("{:.3}", row.value),
            row.unit.to_owned(),
            end(Samples::least),
            end(Samples::most),
            target.unwrap_or_default(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_shows() {
        let rows = [
            Row::of("shim, PSS", 7.0, "MiB", Some(6.0)),
            Row::of("VMM without guest memory, PSS", 1.0, "MiB", Some(4.0)),
        ];
        assert_eq!(rows.each_ref().map(Row::met), [false, true]);
        let table = table(&rows);
        assert!(table.contains("7.000  MiB"), "{table}");
        assert!(table.contains("at most 6: MISSED"), "{table}");
        assert!(table.contains("at most 4: met"), "{table}");
    }
}
