//! Child processes that do not outlive what they were started for.

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A child process; it is killed and waited for with this value, however a measurement ends.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Waits until it ends by itself, until `end` at the latest.
    pub(crate) fn wait(&mut self, end: Instant) -> io::Result<ExitStatus> {
        let pidfd = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
        wait_for(pidfd, end)?;
        self.0.wait()
    }
}

/// Waits until there is something to read, until `end` at the latest.
pub(crate) fn wait_for(fd: impl AsFd, end: Instant) -> io::Result<()> {
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing happens to one that was waited for.
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("ending process {}: {error}", self.0.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_process_that_nobody_waited_for() {
        let process = Process(std::process::Command::new("sleep").arg("60").spawn().unwrap());
        let place = format!("/proc/{}", process.0.id());
        drop(process);
        assert!(!std::path::Path::new(&place).exists());
    }

    #[test]
    fn waiting_has_an_end() {
        let run = |seconds| std::process::Command::new("sleep").arg(seconds).spawn().unwrap();
        let soon = || Instant::now() + Duration::from_millis(20);
        let late = Process(run("60")).wait(soon()).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let end = Instant::now() + Duration::from_secs(60);
        assert!(Process(run("0")).wait(end).unwrap().success());
    }
}
