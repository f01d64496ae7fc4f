//! Runs the test programs of a payload in labs. See `tests/lab/README.md`, "The suite".

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lab::suite::program::{Lab, Program, Report};
use lab::suite::{Outcome, Suite};

/// How many of the slowest tests are named.
const SLOWEST: usize = 15;

/// Runs test programs in labs, two at a time, and says where the time went.
#[derive(Parser)]
struct Cli {
    /// What L1 sees at /opt/cuddy, with the programs in tests/*.test.
    #[arg(long)]
    payload: PathBuf,
    /// containerd's state with the test images (tests/lab/seed.sh).
    #[arg(long)]
    seed: PathBuf,
    /// Account of earlier runs; written anew.
    #[arg(long)]
    records: PathBuf,
    /// Where the numbers of tests passed and failed are written.
    #[arg(long)]
    counts: PathBuf,
    /// Only the programs of these files.
    #[arg(long, default_value = "")]
    files: String,
    /// Only tests whose names hold this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Seconds after which no program is begun any more.
    #[arg(long, default_value_t = 3600)]
    patience: u64,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let files: Vec<String> = cli.files.split_whitespace().map(str::to_owned).collect();
    let programs = Program::all(&cli.payload, &files, &cli.filter)?;
    ensure!(!programs.is_empty(), "no tests for TESTS='{}' FILTER='{}'", cli.files, cli.filter);
    let program = std::env::current_exe()?.with_file_name("lab");
    let lab = Lab { program, payload: cli.payload, seed: cli.seed };
    let patience = Duration::from_secs(cli.patience);
    let suite = Suite { lab, records: cli.records, patience };
    println!("{} programs, two labs at a time; each says all at its end", programs.len());
    let outcome = suite.run(programs, show)?;
    table(&outcome);
    let (passed, failed) = outcome.counts();
    std::fs::write(&cli.counts, format!("{passed} {failed}\n"))
        .with_context(|| format!("writing {}", cli.counts.display()))?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn show(report: &Report) {
    let mut out = std::io::stdout().lock();
    // Who reads is gone, or will see the numbers at the end.
    let _gone = out.write_all(&report.output);
    let _gone = writeln!(
        out,
        "--- {} took {} s: {} passed, {} failed",
        report.program,
        report.took.as_secs(),
        report.passed.len(),
        report.failed.len()
    );
}

/// Where the labs' time went.
fn table(outcome: &Outcome) {
    println!("\n{:<28} {:>6} {:>9} {:>9}", "program", "tests", "seconds", "in tests");
    let mut reports: Vec<_> = outcome.reports.iter().collect();
    reports.sort_by_key(|report| std::cmp::Reverse(report.took));
    for report in &reports {
        let tests: Duration = report.passed.iter().map(|(_, took)| took).sum();
        let count = report.passed.len() + report.failed.len();
        let (took, tests) = (report.took.as_secs(), tests.as_secs());
        println!("{:<28} {count:>6} {took:>9} {tests:>9}", report.program);
    }
    let passed = reports.iter().flat_map(|report| {
        report.passed.iter().map(move |(name, took)| (*took, &report.program, name))
    });
    let mut slowest: Vec<_> = passed.collect();
    slowest.sort_by_key(|(took, ..)| std::cmp::Reverse(*took));
    println!("\nthe slowest tests");
    for (took, program, name) in slowest.iter().take(SLOWEST) {
        println!("{:>6} s  {program} {name}", took.as_secs());
    }
    for report in &reports {
        for said in &report.said {
            println!("\n{} {} failed, and said", report.program, said.test);
            said.lines.iter().for_each(|line| println!("    {line}"));
        }
    }
    for suspect in &outcome.suspects {
        println!(
            "=== FAILED: {suspect}: repeated in two runs in a row: not the emulation's chance"
        );
    }
}
