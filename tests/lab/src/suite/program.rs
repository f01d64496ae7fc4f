//! One test program in labs of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::output::{Reader, Said};

/// Longest time of one lab, and longest silence in it, in seconds.
const LIMIT: &str = "1500";
const SILENCE: &str = "280";

/// Programs whose tests need a host with two CPUs: machines of two vCPUs, queue pairs, and devices
/// beside running vCPUs.
const TWO_CPUS: [&str; 4] = ["e2e-cri_o", "e2e-machine", "e2e-network", "e2e-template"];

/// How often a lab may end without having run a single test before its program is given up.
const BARREN: usize = 2;

/// How a lab is started.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The program `lab`.
    pub program: PathBuf,
    /// What L1 sees at `/opt/cuddy`; its test programs are in `tests`.
    pub payload: PathBuf,
    /// containerd's state with the test images.
    pub seed: PathBuf,
}

/// A test program of the payload and those of its tests that are to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name without `.test`.
    pub name: String,
    /// Its tests.
    pub tests: Vec<String>,
}

/// What came of a program.
#[derive(Debug, Default)]
pub struct Report {
    /// The program's name.
    pub program: String,
    /// Tests that passed, with the time each took.
    pub passed: Vec<(String, Duration)>,
    /// Tests that failed.
    pub failed: Vec<String>,
    /// What tests said each time that they failed.
    pub said: Vec<Said>,
    /// Tests that were repeated, whatever came of it.
    pub repeated: Vec<String>,
    /// How long the program had labs.
    pub took: Duration,
    /// All that was printed.
    pub output: Vec<u8>,
}

impl Program {
    /// The programs in `payload` whose file is one of `files` (all, if that is empty), each with
    /// its tests whose names hold `filter`. Ignored tests are left out, and programs without any.
    ///
    /// # Errors
    /// When a program can't say what tests it has.
    pub fn all(payload: &Path, files: &[String], filter: &str) -> Result<Vec<Self>> {
        let directory = payload.join("tests");
        let mut programs = Vec::new();
        let entries = std::fs::read_dir(&directory);
        for entry in entries.with_context(|| format!("reading {}", directory.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(name) = name.strip_suffix(".test") else { continue };
            let file = name.split_once('-').map_or(name, |(_, file)| file);
            if !files.is_empty() && !files.iter().any(|wanted| wanted == file) {
                continue;
            }
            let ignored = list(&path, filter, true)?;
            let mut tests = list(&path, filter, false)?;
            tests.retain(|test| !ignored.contains(test));
            if !tests.is_empty() {
                programs.push(Self { name: name.to_owned(), tests });
            }
        }
        programs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(programs)
    }

    /// Runs the tests, each until it passes, but at most twice. After `deadline` nothing is begun.
    pub fn run(self, lab: &Lab, deadline: Instant) -> Report {
        let began = Instant::now();
        let mut report = Report { program: self.name, ..Report::default() };
        let (mut left, mut barren) = (self.tests, 0);
        while !left.is_empty() && barren < BARREN && Instant::now() < deadline {
            let (reader, ended) = report.one_lab(lab, &left);
            let before = (left.len(), report.repeated.len());
            left.retain(|test| !reader.passed.iter().any(|(passed, _)| passed == test));
            let suspect = reader.running().map(str::to_owned);
            report.passed.extend(reader.passed);
            report.said.extend(reader.said);
            let suspects = reader.failed.into_iter().chain(suspect);
            for test in suspects {
                report.not_passed(test, &mut left, &ended);
            }
            let after = (left.len(), report.repeated.len());
            barren = if after == before { barren + 1 } else { 0 };
        }
        if !left.is_empty() {
            report.failed.append(&mut left);
        }
        for test in &report.failed {
            say(&mut report.output, &format!("=== FAILED: {} {test}", report.program));
        }
        report.took = began.elapsed();
        report
    }
}

/// Adds a line of the suite's own.
fn say(output: &mut Vec<u8>, line: &str) {
    output.extend(line.as_bytes());
    output.push(b'\n');
}

impl Report {
    /// Notes that a test failed or hung: it is repeated once, and taken from those `left` then.
    fn not_passed(&mut self, test: String, left: &mut Vec<String>, ended: &str) {
        if self.repeated.contains(&test) {
            left.retain(|other| *other != test);
            self.failed.push(test);
            return;
        }
        say(&mut self.output, &format!("=== REPEATED: {} {test}: {ended}", self.program));
        self.repeated.push(test);
    }

    /// Runs `tests` in one lab; what the program said, and how the lab ended.
    fn one_lab(&mut self, lab: &Lab, tests: &[String]) -> (Reader, String) {
        say(&mut self.output, &format!("--- {}: {} tests", self.program, tests.len()));
        let mut reader = Reader::default();
        let ended = match self.start(lab, tests, &mut reader) {
            Ok(ended) => ended,
            Err(error) => format!("{error:#}"),
        };
        (reader, ended)
    }

    fn start(&mut self, lab: &Lab, tests: &[String], reader: &mut Reader) -> Result<String> {
        // Huge pages for guest memory are denied here; `make bench` and `make run` have them.
        const DENY: &str =
            "echo deny >/sys/kernel/mm/transparent_hugepage/shmem_enabled && exec \"$@\"";
        let program = format!("/opt/cuddy/tests/{}.test", self.program);
        let (mut output, writer) = std::io::pipe()?;
        let mut command = Command::new(&lab.program);
        command
            .arg("run")
            .arg("--payload")
            .arg(&lab.payload)
            .args(["--smp", if TWO_CPUS.contains(&self.program.as_str()) { "2" } else { "1" }])
            .args(["--memory", "5120", "--seed"])
            .arg(&lab.seed)
            .args(["--timeout", LIMIT, "--silence", SILENCE])
            .args(["-e", "CUDDY_AGENT=/opt/cuddy/tests/cuddy-agent"])
            .args(["--", "sh", "-c", DENY, "sh", &program, "--test-threads=1", "--exact"])
            .args(tests)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let mut child = command.spawn().context("starting the lab")?;
        // Its ends of the pipe go with it.
        drop(command);
        let mut buffer = [0; 4096];
        loop {
            let count = output.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            let piece = buffer.get(..count).unwrap_or_default();
            self.output.extend(piece);
            reader.take(piece, Instant::now());
        }
        Ok(child.wait()?.to_string())
    }
}

/// What tests a program has, all or the ignored ones. Programs run on this machine far enough to
/// tell.
fn list(program: &Path, filter: &str, ignored: bool) -> Result<Vec<String>> {
    let mut command = Command::new(program);
    command.args(["--list", "--format", "terse"]);
    command.args(ignored.then_some("--ignored")).args(filter.split_whitespace());
    let output = command.output().with_context(|| format!("running {}", program.display()))?;
    ensure!(output.status.success(), "{} can't list its tests", program.display());
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
