//! System calls that no safe library covers and only the agent needs; others share some, in crate
//! `syscalls`. All else of the agent is safe; here is one narrow wrapper per call, and the callers
//! hold all policy.

pub(crate) mod clock;
pub(crate) mod filter;
pub(crate) mod keys;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod scheduling;
pub(crate) mod signal;
pub(crate) mod vsock;
pub(crate) mod watch;

use std::io;

/// Turns the result of a raw system call into an `io::Result`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
