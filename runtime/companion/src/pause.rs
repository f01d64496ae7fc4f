//! `cuddy-pause`: the first process of a pod whose containers run in the node's own kernel. It holds
//! the pod's namespaces. Where containers share their process ids it is their init process, so it
//! buries whom nobody else waits for.

use std::process::ExitCode;

use rustix::process::{WaitOptions, wait};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    let Ok(mut signals) = Signals::new([SIGCHLD, SIGINT, SIGTERM]) else {
        return ExitCode::FAILURE;
    };
    bury();
    for signal in signals.forever() {
        if signal != SIGCHLD {
            break;
        }
        bury();
    }
    ExitCode::SUCCESS
}

/// Waits for all children that have ended.
fn bury() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
