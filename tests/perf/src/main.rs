//! `make bench`: Cuddy's numbers beside those of peers that run on the same host in the same run.
//! They come as a table for people and as JSON for programs. The program runs where the product is
//! installed with the lab's test images. In the lab, seconds are only good for ratios.

mod boot;
mod commands;
mod compare;
mod density;
mod devices;
mod lists;
mod memory;
mod node;
mod overhead;
mod peers;
mod pod;
mod process;
mod pull;
mod request;
mod results;
mod samples;
mod start;
mod table;
mod timeline;
mod together;
mod traces;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use boot::Files;
use results::Results;

/// Measure Cuddy beside QEMU, runc, gVisor, containerd and Docker.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    results: Results,
    #[command(subcommand)]
    part: Part,
}

/// What is measured; fails where a target is missed.
#[derive(clap::Subcommand)]
enum Part {
    /// Boot time, request to first output, and memory of one sandbox, beside QEMU and runc.
    Start(start::StartArgs),
    /// Our own CRI server beside containerd: starts of pods, and its memory.
    Node(node::NodeArgs),
    /// The same with many pods.
    Crowd(node::NodeArgs),
    /// Our own CRI server beside containerd: many pods that are listed each second.
    Lists(lists::ListsArgs),
    /// Our own CRI server beside containerd: a large image from a registry.
    Pull(pull::PullArgs),
    /// `cuddy run` beside `ctr run` and `docker run`.
    Commands(commands::CommandsArgs),
    /// Where the time of a pod's start goes, step by step, beside runc.
    Timeline(timeline::TimelineArgs),
    /// A machine's disk beside QEMU's.
    Disk(devices::DevicesArgs),
    /// A machine's share beside QEMU's with virtiofsd.
    Share(devices::DevicesArgs),
    /// A machine's network beside QEMU's.
    Network(devices::DevicesArgs),
    /// What a pod's sandbox takes beside its containers.
    Overhead(overhead::OverheadArgs),
    /// Many pods on one host: memory of each, and that nothing is left.
    Density(density::DensityArgs),
    /// Two results beside each other; fails where a count of instructions grew by 3 % or more.
    Compare(compare::CompareArgs),
}

/// Where the product is installed: the parent of the folder of this program.
fn prefix() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    let prefix = program.ancestors().nth(2).context("this program is not in PREFIX/bin")?;
    Ok(prefix.to_owned())
}

fn main() -> Result<ExitCode> {
    let Cli { results, part } = Cli::parse();
    let files = Files::installed(&prefix()?);
    let met = match part {
        Part::Start(args) => args.run(&results, &files),
        Part::Node(args) => args.run("node", &results),
        Part::Crowd(args) => args.run("crowd", &results),
        Part::Lists(args) => args.run(&results),
        Part::Pull(args) => args.run(&results),
        Part::Commands(args) => args.run(&results),
        Part::Timeline(args) => args.run(&results),
        Part::Disk(args) => args.run("disk", &results, &files),
        Part::Share(args) => args.run("share", &results, &files),
        Part::Network(args) => args.run("network", &results, &files),
        Part::Overhead(args) => args.run(&results),
        Part::Density(args) => args.run(&results),
        Part::Compare(args) => args.run(),
    }?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
