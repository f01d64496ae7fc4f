//! The numbers, as rows that know their target.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::boot::BootTimes;
use crate::memory::Memory;
use crate::request::RequestTimes;
use crate::samples::Samples;

/// One line of the report.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// Smallest and largest of the measured runs, if it was measured more than once.
    range: Option<(f64, f64)>,
    /// The most that the value may be; none: reported only.
    at_most: Option<f64>,
}

impl Row {
    fn met(&self) -> bool {
        self.at_most.is_none_or(|limit| self.value <= limit)
    }
}

/// All rows of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    clock: String,
    rows: Vec<Row>,
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 1e4
}

fn ratio(of: &Samples, to: &Samples) -> f64 {
    let ratio = of.median().as_secs_f64() / to.median().as_secs_f64();
    (ratio * 1e3).round() / 1e3
}

fn mib(kib: u64) -> f64 {
    let hundredths = kib * 100 / 1024;
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

impl Report {
    /// An empty report of a run in which one second means `clock`.
    pub(crate) fn new(clock: &str) -> Self {
        Self { clock: clock.to_owned(), rows: Vec::new() }
    }

    fn value(&mut self, what: &'static str, value: f64, unit: &'static str, at_most: Option<f64>) {
        self.rows.push(Row { what, value, unit, range: None, at_most });
    }

    fn times(&mut self, what: &'static str, samples: &Samples) {
        let (low, high) = samples.range();
        let range = Some((seconds(low), seconds(high)));
        let value = seconds(samples.median());
        self.rows.push(Row { what, value, unit: "s", range, at_most: None });
    }

    /// Adds the boot times.
    pub(crate) fn boot(&mut self, times: &BootTimes) {
        self.times("boot to agent ready, cuddy-vmm", &times.cuddy);
        self.times("boot to agent ready, QEMU microvm", &times.qemu);
        self.value("boot, cuddy-vmm / QEMU", ratio(&times.cuddy, &times.qemu), "", Some(0.7));
    }

    /// Adds the times from request to first output.
    pub(crate) fn request(&mut self, times: &RequestTimes) {
        self.times("ctr run to first output, cuddy", &times.cuddy);
        self.times("ctr run to first output, runc", &times.runc);
        self.value("ctr run, cuddy / runc", ratio(&times.cuddy, &times.runc), "", None);
    }

    /// Adds the memory of one idle sandbox.
    pub(crate) fn memory(&mut self, memory: &Memory) {
        self.value("shim, PSS", mib(memory.shim_kib), "MiB", Some(6.0));
        self.value("VMM without guest memory, PSS", mib(memory.vmm_kib), "MiB", Some(4.0));
        self.value("guest memory touched, idle", mib(memory.guest_kib), "MiB", None);
    }

    /// Whether every number that has a target meets it.
    pub(crate) fn all_met(&self) -> bool {
        self.rows.iter().all(Row::met)
    }

    /// The report for programs.
    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The report for people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("one second is {}\n", self.clock);
        for row in &self.rows {
            let range = row.range.map(|(low, high)| format!("{low} to {high}")).unwrap_or_default();
            let target = row.at_most.map(|limit| {
                format!("at most {limit}: {}", if row.met() { "met" } else { "MISSED" })
            });
            let target = target.unwrap_or_default();
            let Row { what, value, unit, .. } = row;
            let line = format!("{what:<36} {value:>9} {unit:<4} {range:<18} {target}");
            // Writing to a string can't fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_shows_and_fails() {
        let mut report = Report::new("wall clock");
        report.memory(&Memory { shim_kib: 7 * 1024, vmm_kib: 1024, guest_kib: 1 });
        assert!(!report.all_met());
        let table = report.table();
        assert!(table.contains("7 MiB"), "{table}");
        assert!(table.contains("at most 6: MISSED"), "{table}");
        assert!(table.contains("at most 4: met"), "{table}");
    }
}
