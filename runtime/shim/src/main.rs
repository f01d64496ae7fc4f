//! `containerd-shim-cuddy-v2`: the door through which containerd and CRI-O run pods in machines.
//!
//! One binary, four programs. containerd executes `start` and `delete`, which end at once. `-info`
//! tells what the runtime can do. `daemon` is what `start` leaves behind, one for each pod. It
//! serves the Task service. See the containerd project's `core/runtime/v2/README.md` for the
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

fn main() -> ExitCode {
    let outcome = Flags::parse(std::env::args().skip(1)).map_err(Into::into).and_then(run);
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
