//! Standard streams without a terminal.

use std::os::fd::OwnedFd;

use oci_spec::runtime::User;

use super::failure::Context;
use crate::control::Failure;

/// Makes the three descriptors standard input, output and error of this process.
pub(super) fn attach(streams: Vec<OwnedFd>, user: &User) -> Result<(), Failure> {
    let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(streams) else {
        return Err(Failure::guest("the agent did not pass three streams"));
    };
    for stream in [&stdin, &stdout, &stderr] {
        own(stream, user)?;
    }
    rustix::stdio::dup2_stdin(&stdin).context("set standard input")?;
    rustix::stdio::dup2_stdout(&stdout).context("set standard output")?;
    rustix::stdio::dup2_stderr(&stderr).context("set standard error")
}

/// Gives a pipe to the user, who may then open it again through /dev/stdout. /dev/null is not
/// ours to give.
fn own(stream: &OwnedFd, user: &User) -> Result<(), Failure> {
    let metadata = rustix::fs::fstat(stream).context("look at a stream")?;
    let kind = rustix::fs::FileType::from_raw_mode(metadata.st_mode);
    if kind != rustix::fs::FileType::Fifo {
        return Ok(());
    }
    match rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(user.uid())), None) {
        // An id without a mapping in the container's user namespace: programs run, only
        // opening the stream again fails.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => Ok(()),
        other => other.context("give a stream to the user"),
    }
}
