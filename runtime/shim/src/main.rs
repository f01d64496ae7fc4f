//! `containerd-shim-cuddy-v2`: the door through which containerd and CRI-O run pods in machines.
//!
//! One binary, five programs. containerd executes `start` and `delete`, which end at once. `-info`
//! tells what the runtime can do. `daemon` is what `start` leaves behind, one for each pod. It
//! serves the Task service. `template` is what a daemon leaves to build a template of its machine, in
//! the background. See the containerd project's `core/runtime/v2/README.md` for the
//! protocol.

mod bootstrap;
mod callers;
mod convert;
mod daemon;
mod delete;
mod error;
mod info;
mod listen;
mod logger;
mod metrics;
mod oom_file;
mod own_api;
mod pod_config;
mod publish;
mod sandbox_api;
mod start;
mod task;

use std::io::Write;
use std::process::ExitCode;

use bootstrap::flags::{Action, Flags};
use template::background;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let outcome = match words.next_if(|word| word == background::VERB) {
        Some(_) => background::run(words).map_err(Into::into),
        None => Flags::parse(words).map_err(Into::into).and_then(run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Shown to the user as the reason why the task was not created.
            let mut stderr = std::io::stderr();
            let _closed = writeln!(stderr, "containerd-shim-cuddy-v2: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let answer = match flags.action {
        Action::Start => start::run(&flags)?,
        Action::Delete => delete::run(&flags)?,
        Action::Info => info::run()?,
        Action::Version => format!("containerd-shim-cuddy-v2 {}\n", info::VERSION).into_bytes(),
        Action::Daemon => return daemon::run(&flags),
    };
    std::io::stdout().write_all(&answer)?;
    Ok(())
}
