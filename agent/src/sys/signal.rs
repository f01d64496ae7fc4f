//! Signals by number, also real-time ones.
#![allow(unsafe_code, reason = "safe libraries know only named signals")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends `signal` (0 to 64; 0 only checks) to the process of a pidfd, which cannot be another
/// process that got the same id.
pub(crate) fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks the kernel to fill in that of kill(2).
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    super::check(result).map(drop)
}

/// Sends `signal` to a process id of this pid namespace.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes no pointers.
    let result = unsafe { libc::kill(pid, signal) };
    super::check(result.into()).map(drop)
}

/// Gives every signal its default action and unblocks it, so that a program starts as it would
/// from a shell. Rust ignores SIGPIPE, which execve(2) would keep.
pub(crate) fn reset_all() {
    for signal in 1..=64 {
        // SAFETY: the default action runs no code of ours; numbers that cannot be changed
        // (SIGKILL, SIGSTOP, libc's own) are refused without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: the set is live memory of the right size.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: sigemptyset initialised the set; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Lets children that end vanish by themselves, without being waited for.
pub(crate) fn let_children_go() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}
