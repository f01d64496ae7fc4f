//! Work that must be done from outside of a namespace, for this process that enters it. This
//! process forks another one before it enters. The other process stays outside, and does the work
//! when it is told to. Only a process outside can write id maps of several ranges. Only it can
//! write this process's files in /proc: they are not this process's own in a user namespace
//! (proc(5), "ownership").

use std::os::fd::OwnedFd;

use super::failure::Context;
use crate::control::Failure;
use crate::sys::process::{self, Fork};

/// Work that waits outside. Dropped, it is not done.
#[derive(Debug)]
pub(super) struct Outside {
    worker: i32,
    go: OwnedFd,
}

impl Outside {
    /// Lets `work` wait; it is given the id of this process.
    ///
    /// # Errors
    /// The kernel refuses a process.
    pub(super) fn prepare(work: impl FnOnce(u32) -> std::io::Result<()>) -> Result<Self, Failure> {
        let parent = std::process::id();
        let (wait, go) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("make a pipe")?;
        match process::fork().context("fork a process that stays outside")? {
            Fork::Parent(worker) => Ok(Self { worker, go }),
            Fork::Child => {
                drop(go);
                let told = rustix::io::read(&wait, &mut [0; 1]).is_ok_and(|count| count == 1);
                let done = if told { work(parent) } else { Ok(()) };
                // An errno fits into an exit code.
                let code = done.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
                std::process::exit(code);
            }
        }
    }

    /// Has the work done.
    ///
    /// # Errors
    /// What the kernel answered to it.
    pub(super) fn act(self) -> std::io::Result<()> {
        let Self { worker, go } = self;
        rustix::io::write(&go, &[1])?;
        let worker = rustix::process::Pid::from_raw(worker);
        let status = rustix::process::waitpid(worker, rustix::process::WaitOptions::empty())?;
        match status.and_then(|(_, status)| status.exit_status()) {
            Some(0) => Ok(()),
            Some(code) => Err(std::io::Error::from_raw_os_error(code)),
            None => Err(std::io::Error::other("the process that stayed outside was killed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outside;

    // `fork` wants a process of one thread, which a test is not: this one calls nothing that could
    // wait for a lock.
    #[test]
    fn work_is_done_outside_and_its_failure_told() {
        let own = std::process::id();
        let fine = Outside::prepare(move |parent| {
            if parent == own && std::process::id() != own { Ok(()) } else { Err(other()) }
        });
        fine.unwrap().act().unwrap();
        let failing = Outside::prepare(|_| Err(other())).unwrap();
        assert_eq!(failing.act().unwrap_err().raw_os_error(), Some(libc::EXDEV));
    }

    fn other() -> std::io::Error {
        std::io::Error::from_raw_os_error(libc::EXDEV)
    }
}
