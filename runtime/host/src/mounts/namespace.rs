//! Namespaces of single threads, and of what they start.
#![allow(unsafe_code, reason = "unshare is unsafe for its flag that takes descriptors apart")]

use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives this thread a mount namespace of its own, and a working directory and root that it
/// changes for itself alone: a copy of what is mounted now. No mount that is made or goes here is
/// seen elsewhere; what the host unmounts goes here as well, if its mounts propagate.
///
/// # Errors
/// What the kernel answered.
pub(super) fn leave() -> io::Result<()> {
    // SAFETY: the flag that would make it unsafe, FILES, is not given.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let follow = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(mount_change("/", follow)?)
}

/// Gives the next process that this thread starts a process namespace of its own, whose first
/// process it is. The thread can do so once, and can make no thread from then on.
///
/// # Errors
/// What the kernel answered.
pub(super) fn part_children() -> io::Result<()> {
    // SAFETY: the flag that would make it unsafe, FILES, is not given.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?)
}
