//! `make bench`: Cuddy's numbers beside those of peers that run on the same host in the same
//! run, as a table for people and as JSON for programs. Runs where the product is installed
//! and containerd serves; in the lab, seconds are only good for ratios.

mod boot;
mod density;
mod devices;
mod memory;
mod report;
mod request;
mod samples;
mod timeline;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use report::Report;

/// Measure boot time, request to first output, and memory, beside QEMU and runc.
#[derive(Parser)]
struct Cli {
    /// Measured runs of each kind, after one run that warms up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Also write the numbers as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Image that `ctr` runs; must be imported.
    #[arg(long, default_value = "cuddy.test/busybox:latest")]
    image: String,
    /// What one second means on this host, for the report.
    #[arg(long, default_value = "wall clock", global = true)]
    clock: String,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What is measured apart from all else.
#[derive(clap::Subcommand)]
enum Part {
    /// Where the time of a pod's start goes, step by step, beside runc.
    Timeline(timeline::TimelineArgs),
    /// Disk, share and network of a machine beside QEMU's.
    Devices(devices::DevicesArgs),
    /// Many pods on one host: memory of each, and that nothing is left.
    Density(density::DensityArgs),
}

/// Where the product is installed: the parent of the folder of this program.
fn prefix() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    let prefix = program.ancestors().nth(2).context("this program is not in PREFIX/bin")?;
    Ok(prefix.to_owned())
}

fn measure(cli: &Cli) -> Result<Report> {
    let mut report = Report::new(&cli.clock);
    let files = boot::Files::installed(&prefix()?);
    report.boot(&boot::measure(&files, cli.runs)?);
    report.request(&request::measure(&cli.image, cli.runs)?);
    report.memory(&memory::measure(&cli.image)?);
    Ok(report)
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match &cli.part {
        Some(Part::Timeline(args)) => return args.run(&cli.clock),
        Some(Part::Devices(args)) => {
            return args.run(&cli.clock, &boot::Files::installed(&prefix()?));
        }
        Some(Part::Density(args)) => return args.run(),
        None => {}
    }
    let report = measure(&cli)?;
    print!("{}", report.table());
    if let Some(path) = &cli.json {
        std::fs::write(path, report.json()?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(if report.all_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
