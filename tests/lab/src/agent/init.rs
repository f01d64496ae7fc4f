//! PID 1 of L1.

use std::io;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};

/// Where the driver's archive puts the lab's own files.
pub const HOME: &str = "/opt/lab";

const PATH: &str = "/opt/cuddy/bin:/opt/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// Sets L1 up, runs the service, and reaps every orphan until the service ends; then powers
/// the machine off.
///
/// # Errors
/// The machine could not be powered off.
pub fn run() -> io::Result<()> {
    if let Err(error) = reap_until_service_ends() {
        eprintln!("lab-agent: {error}");
    }
    rustix::fs::sync();
    reboot(RebootCommand::PowerOff)?;
    Ok(())
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8");
    command.env("TERM", "linux").current_dir("/");
    command
}

fn reap_until_service_ends() -> io::Result<()> {
    let status = command(&format!("{HOME}/lab-setup")).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("lab-setup failed: {status}")));
    }
    let service = command(&format!("{HOME}/lab-agent")).arg("serve").spawn()?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status)))
                if pid.as_raw_nonzero().get().cast_unsigned() == service.id() =>
            {
                return Err(io::Error::other(format!("the service ended: {status:?}")));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
