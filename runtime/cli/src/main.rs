//! `cuddy`, the command line of the runtime. One verb per file under `commands/`.

mod check;
mod commands;
mod probe;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs every pod in a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "cuddy", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(commands::check::CheckArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Check(args) => args.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cuddy: {error:#}");
        ExitCode::FAILURE
    })
}
