//! Runs the test programs of a payload in labs, two at a time, and keeps account of them.
//!
//! Each program has a lab of its own, and two labs run side by side: they use two CPUs whole if each
//! lab has one. With two CPUs each they took a third longer, because a CPU of a lab then waits for
//! one that does not run. The programs that took longest last time run first. QEMU's nested
//! virtualisation may break a test (`tests/lab/README.md`). So a test that fails is repeated once,
//! in a fresh lab, for everybody to see. A test that fails twice in one run fails the run. So does
//! a test that is repeated in two runs in a row.

pub mod output;
pub mod program;
pub mod record;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use program::{Lab, Program, Report};
use record::Record;

/// Labs at a time; each has a thread that emulates.
const SIDE_BY_SIDE: usize = 2;

/// How a suite is run.
#[derive(Debug, Clone)]
pub struct Suite {
    /// How a lab is started.
    pub lab: Lab,
    /// Where accounts of earlier runs are, and this one's go.
    pub records: PathBuf,
    /// After this time no program is begun any more, so that what hangs is told in time.
    pub patience: Duration,
}

/// What came of a suite.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Each program's account, in the order in which they ended.
    pub reports: Vec<Report>,
    /// Tests that were repeated in this run and in the one before.
    pub suspects: Vec<String>,
}

impl Outcome {
    /// How many tests passed and failed; a suspect counts as failed.
    pub fn counts(&self) -> (usize, usize) {
        let passed: usize = self.reports.iter().map(|report| report.passed.len()).sum();
        let failed: usize = self.reports.iter().map(|report| report.failed.len()).sum();
        (passed.saturating_sub(self.suspects.len()), failed + self.suspects.len())
    }

    /// How many repeats there were.
    pub fn repeats(&self) -> usize {
        self.reports.iter().map(|report| report.repeated.len()).sum()
    }
}

impl Suite {
    /// Runs all `programs` and says each one's output and account through `tell` as it ends.
    ///
    /// # Errors
    /// When the account of earlier runs can't be read or this one's not be written.
    pub fn run(
        &self,
        mut programs: Vec<Program>,
        mut tell: impl FnMut(&Report),
    ) -> anyhow::Result<Outcome> {
        let mut record = Record::read(&self.records)?;
        // Where nothing is known, the number of tests stands for the time.
        let cost = |program: &Program| (record.seconds(&program.name), program.tests.len());
        programs.sort_by_key(|program| std::cmp::Reverse(cost(program)));
        let deadline = Instant::now() + self.patience;
        let mut outcome = Outcome::default();
        let mut waiting = VecDeque::from(programs);
        let (sender, reports) = mpsc::channel();
        let mut running = 0;
        loop {
            while running < SIDE_BY_SIDE
                && let Some(program) = waiting.pop_front()
            {
                self.begin(program, deadline, sender.clone());
                running += 1;
            }
            if running == 0 {
                break;
            }
            let report = reports.recv()?;
            running -= 1;
            tell(&report);
            outcome.suspects.extend(record.add(&report));
            outcome.reports.push(report);
        }
        record.write(&self.records)?;
        Ok(outcome)
    }

    fn begin(&self, program: Program, deadline: Instant, reports: mpsc::Sender<Report>) {
        let lab = self.lab.clone();
        thread::spawn(move || {
            // The receiver outlives all but a panic of its own.
            let _gone = reports.send(program.run(&lab, deadline));
        });
    }
}
