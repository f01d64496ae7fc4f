//! Accounts of earlier runs: how long programs and tests took, and which tests had to be repeated.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::program::Report;

/// What is known of one test.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// Runs that it was part of.
    pub runs: u32,
    /// Runs in which it had to be repeated.
    pub repeats: u32,
    /// The last runs in a row in which it had to be repeated.
    pub in_a_row: u32,
    /// Seconds that it took when it last passed.
    #[serde(default)]
    pub seconds: u64,
}

/// What is known of all runs in one target directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Seconds that each program took when it last ran.
    programs: BTreeMap<String, u64>,
    /// Tests, by program and name.
    tests: BTreeMap<String, Test>,
}

impl Record {
    /// Reads the file at `path`; none is an empty record.
    ///
    /// # Errors
    /// When it can't be read, or is none of ours.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        serde_json::from_slice(&text)
            .with_context(|| format!("parsing {}: delete it to begin anew", path.display()))
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Seconds that a program took when it last ran. One that never ran may take long.
    pub fn seconds(&self, program: &str) -> u64 {
        self.programs.get(program).copied().unwrap_or(u64::MAX)
    }

    /// Adds a program's account. Returns the tests that passed now, but had to be repeated both
    /// now and in the run before.
    pub fn add(&mut self, report: &Report) -> Vec<String> {
        self.programs.insert(report.program.clone(), report.took.as_secs());
        let mut suspects = Vec::new();
        let passed = report.passed.iter().map(|(name, took)| (name, Some(took.as_secs())));
        for (name, took) in passed.chain(report.failed.iter().map(|name| (name, None))) {
            let key = format!("{} {name}", report.program);
            let test = self.tests.entry(key.clone()).or_default();
            test.runs += 1;
            test.seconds = took.unwrap_or(test.seconds);
            if !report.repeated.contains(name) {
                test.in_a_row = 0;
                continue;
            }
            test.repeats += 1;
            test.in_a_row += 1;
            if test.in_a_row > 1 && !report.failed.contains(name) {
                suspects.push(key);
            }
        }
        suspects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn report(repeated: &[&str]) -> Report {
        Report {
            program: "e2e-run".into(),
            passed: ["one", "two"].map(|name| (name.to_owned(), Duration::from_secs(7))).to_vec(),
            repeated: repeated.iter().map(ToString::to_string).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn a_test_that_is_repeated_in_two_runs_in_a_row_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("repeats.json");
        let run = |repeated: &[&str]| {
            let mut record = Record::read(&path).unwrap();
            let suspects = record.add(&report(repeated));
            record.write(&path).unwrap();
            suspects
        };
        assert!(run(&["one"]).is_empty());
        assert!(run(&["two"]).is_empty());
        assert!(run(&["one"]).is_empty());
        assert_eq!(run(&["one", "two"]), ["e2e-run one"]);
        let record = Record::read(&path).unwrap();
        let expected = Test { runs: 4, repeats: 3, in_a_row: 2, seconds: 7 };
        assert_eq!(record.tests["e2e-run one"], expected);
    }

    #[test]
    fn a_file_of_something_else_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("repeats.json");
        std::fs::write(&path, "not json").unwrap();
        let error = format!("{:#}", Record::read(&path).unwrap_err());
        assert!(error.contains("repeats.json") && error.contains("delete it"), "{error}");
    }
}
