//! Fifos, through which streams pass between the daemon and its shims.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe;

/// Makes a fifo for this user alone.
///
/// # Errors
/// The kernel's.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?)
}

/// Makes a fifo and opens it for reading. What is written to it waits there.
///
/// # Errors
/// The kernel's.
pub(crate) fn receive(path: &Path) -> io::Result<pipe::Receiver> {
    make(path)?;
    pipe::OpenOptions::new().open_receiver(path)
}
