//! The guest side: what `lab-agent` does inside L1.
//!
//! [`init`] is PID 1: it runs the setup script, starts the service, reaps orphans, and powers
//! off when the service ends. [`serve`] is the service: one thread and one `session` per
//! connection.

pub mod init;
mod process;
mod session;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::thread;

/// TCP port of the service in L1.
pub const PORT: u16 = 7070;

/// What the service writes to the virtio-serial port once it accepts connections.
pub const READY: &[u8] = b"lab-agent ready\n";

/// Reads `lab.NAME=VALUE` from the kernel command line.
///
/// # Errors
/// `/proc/cmdline` cannot be read or lacks the parameter.
pub fn kernel_parameter(name: &str) -> io::Result<String> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let prefix = format!("lab.{name}=");
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(&prefix))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no {prefix} parameter")))
}

/// Serves commands for ever.
///
/// # Errors
/// The port cannot be bound, the driver cannot be told, or accepting fails.
pub fn serve() -> io::Result<()> {
    let token = kernel_parameter("token")?;
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    announce()?;
    loop {
        let (stream, _) = listener.accept()?;
        let token = token.clone();
        thread::spawn(move || {
            // A lost connection is the driver's to report; the command is dead by then.
            let _ = session::run(&stream, &token);
        });
    }
}

/// Tells the driver through the only virtio-serial port of the machine.
fn announce() -> io::Result<()> {
    for entry in fs::read_dir("/dev")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("vport") {
            return fs::write(entry.path(), READY);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no virtio-serial port"))
}
