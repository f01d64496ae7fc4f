//! Duplicating a process into a cgroup: clone3(2), for which no library has a word.
#![allow(unsafe_code, reason = "clone3 takes a structure, and the copy goes on with this memory")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// From `include/uapi/linux/sched.h`; libc's has too few bits.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A copy of this process, not waited for yet.
#[derive(Debug)]
pub struct Forked {
    /// Its number in this process's namespace of processes.
    pub pid: Pid,
    /// The process itself, closed on exec.
    pub pidfd: OwnedFd,
}

/// As fork(2), but the copy is born in the cgroup (of version 2) whose directory is given. A process
/// that is moved there waits until all of the kernel has looked away from it; this one does not.
/// Returns none in the copy.
///
/// # Errors
/// The kernel's (`clone3`, cgroups(7)): `EBUSY` for a cgroup that may hold no processes, `EAGAIN`
/// for one that has as many as it may, `ENOSYS` before Linux 5.7.
///
/// # Safety
/// The copy lacks all threads but the one that called. If there were others, it may make only
/// async-signal-safe system calls and allocate nothing until it is another program or ends.
pub unsafe fn fork_into(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Forked>> {
    let mut pidfd: RawFd = -1;
    // SAFETY: a structure of numbers may be all zeroes.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = libc::CLONE_PIDFD.unsigned_abs().into();
    arguments.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    arguments.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd().unsigned_abs().into();
    }
    let size = size_of::<libc::clone_args>();
    // SAFETY: the arguments live, and ask for a copy of this process and nothing shared; what the
    // copy may do is the caller's promise.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) } {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        pid => {
            // SAFETY: the kernel has made it for this process, and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            Ok(Some(Forked { pid: pid.ok_or(io::ErrorKind::InvalidData)?, pidfd }))
        }
    }
}
