//! PID 1 (`lab-agent init`) and command service (`lab-agent serve`) of the lab's L1 machine.

use std::process::ExitCode;

use lab::agent;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("init") => agent::init::run(),
        Some("serve") => agent::serve(),
        _ => {
            eprintln!("usage: lab-agent init|serve");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
