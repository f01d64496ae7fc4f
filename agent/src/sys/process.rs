//! Processes and namespaces, for `container-init`.
#![allow(unsafe_code, reason = "fork, unshare and prctl are in no safe library")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What fork(2) returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// In the parent: the child's process id in the parent's pid namespace.
    Parent(i32),
    /// In the child.
    Child,
}

/// Duplicates this process, which must be single-threaded: `container-init` never starts a
/// thread, and the agent never calls this.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: fork(2) takes no pointers, and the process has one thread, so that no lock can be
    // held by a thread that the child lacks.
    let pid = unsafe { libc::fork() };
    match super::check(pid.into())? {
        0 => Ok(Fork::Child),
        _ => Ok(Fork::Parent(pid)),
    }
}

/// As [`fork`], but the child is born in the cgroup (of version 2) whose directory this is.
///
/// # Errors
/// As of [`syscalls::clone::fork_into`].
pub(crate) fn fork_into(cgroup: BorrowedFd<'_>) -> io::Result<Fork> {
    // SAFETY: the process has one thread, so that no lock can be held by one that the child lacks.
    let copy = unsafe { syscalls::clone::fork_into(Some(cgroup)) }?;
    Ok(copy.map_or(Fork::Child, |copy| Fork::Parent(copy.pid.as_raw_nonzero().get())))
}

/// Moves this process out of the namespaces named by `CLONE_NEW…` flags.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare(2) takes no pointers; only namespace flags are passed, so descriptors and
    // memory stay shared as Rust assumes.
    let result = unsafe { libc::unshare(flags) };
    super::check(result.into()).map(drop)
}

/// Moves this process into namespaces: of a process (a pidfd with `CLONE_NEW…` flags) or a
/// namespace file.
pub(crate) fn setns(fd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: setns(2) takes no pointers.
    let result = unsafe { libc::setns(fd.as_raw_fd(), flags) };
    super::check(result.into()).map(drop)
}

/// Sets the supplementary groups, setgroups(2).
pub(crate) fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the length describe a live slice.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    super::check(result).map(drop)
}

/// Sets real, effective and saved group id.
pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: setresgid(2) takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    super::check(result).map(drop)
}

/// Sets real, effective and saved user id.
pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: setresuid(2) takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    super::check(result).map(drop)
}

/// Sets the execution domain, personality(2).
pub(crate) fn set_personality(persona: libc::c_ulong) -> io::Result<()> {
    // SAFETY: personality(2) takes no pointers.
    let result = unsafe { libc::personality(persona) };
    super::check(result.into()).map(drop)
}

/// Replaces the program of this process. Returns only on failure.
pub(crate) fn execve(path: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let null_ended = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (null_ended(arguments), null_ended(environment));
    // SAFETY: all three are live C strings or arrays of them that end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
