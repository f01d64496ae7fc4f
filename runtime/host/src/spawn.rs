//! Starting child processes that find descriptors at fixed numbers, and watching a process
//! by its pidfd.

#![allow(unsafe_code, reason = "descriptors are placed between fork and exec, in the child")]

mod program;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use program::{Program, StartError};
pub use syscalls::clone::Forked;

/// First number that a child's descriptor gets; 0 to 2 are its standard streams.
const FIRST: RawFd = 3;

/// Starts `command` in a session of its own with `fds` as its descriptors 3, 4, … and no other
/// but its standard streams.
///
/// # Errors
/// What fork, exec or the placing of descriptors answered.
pub fn spawn(mut command: Command, fds: &[OwnedFd]) -> io::Result<Child> {
    let count = RawFd::try_from(fds.len()).map_err(io::Error::other)?;
    let end = FIRST + count;
    // Between fork and exec the standard library reports errors over a pipe of its own. Taking
    // all low numbers first keeps that pipe, and the sources, clear of the numbers given away.
    let mut taken = Vec::new();
    let null = std::fs::File::open("/dev/null")?;
    while taken.last().is_none_or(|fd: &OwnedFd| fd.as_raw_fd() < end) {
        taken.push(rustix::io::fcntl_dupfd_cloexec(&null, FIRST)?);
    }
    let sources = fds
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, end))
        .collect::<Result<Vec<_>, _>>()?;
    let numbers: Vec<RawFd> = sources.iter().map(AsRawFd::as_raw_fd).collect();
    let place = move || place(&numbers, FIRST);
    // SAFETY: `place` makes only async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(place) };
    let child = command.spawn();
    drop(sources);
    child
}

/// Runs in the child: keeps it from ending by a signal that goes to all processes of a host that
/// shuts down, SIGTERM or SIGINT. This process gets it too, and ends the other in order.
fn ignore_ends() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: async-signal-safe; an ignored signal has no handler that could be unsound.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Runs in the child: puts the sources in their places from `first` on and marks all behind them to be
/// closed.
fn place(sources: &[RawFd], first: RawFd) -> io::Result<()> {
    let mut end = first;
    for source in sources {
        let target = end;
        // SAFETY: both are plain numbers; the kernel checks them.
        if unsafe { libc::dup2(*source, target) } < 0 {
            return Err(io::Error::last_os_error());
        }
        end += 1;
    }
    let first = end.unsigned_abs();
    // SAFETY: takes numbers only; marking descriptors close-on-exec invalidates none of them.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    // SAFETY: takes no argument; it fails only in a group leader, which a fork never is.
    unsafe { libc::setsid() };
    Ok(())
}

/// Makes a descriptor, which must not block, a resource of the runtime.
///
/// # Errors
/// What the kernel answered.
pub fn register<T: AsRawFd + AsFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: `T: AsFd` lends out one descriptor for as long as it lives, and `AsyncFd` keeps it
    // until it is unregistered.
    Ok(unsafe { AsyncFd::register_with_interest(inner, interest) }?)
}

/// A process that can be waited for and killed without the risk that its number was reused.
#[derive(Debug)]
pub struct Watched {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildEnd {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for ChildEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

impl Watched {
    /// Watches a process that a [`Program`] has started.
    ///
    /// # Errors
    /// The runtime takes no more descriptors; the process was ended then.
    pub fn started(Forked { pid, pidfd }: Forked) -> io::Result<Self> {
        let ended = pidfd.try_clone()?;
        match register(pidfd, Interest::READABLE) {
            Ok(pidfd) => Ok(Self { pid, pidfd }),
            Err(error) => {
                // It has only just begun: nothing can hold it up.
                let _ended =
                    rustix::process::pidfd_send_signal(&ended, Signal::KILL).and_then(|()| {
                        rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)
                    });
                Err(error)
            }
        }
    }

    /// Watches a child that has not been waited for yet.
    ///
    /// # Errors
    /// What `pidfd_open` answered; the child was ended then.
    pub fn new(mut child: Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let watched = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(|pidfd| Ok(Self { pid, pidfd: register(pidfd, Interest::READABLE)? }));
        if watched.is_err() {
            // It has only just begun: nothing can hold it up.
            let _ended = child.kill().and_then(|()| child.wait());
        }
        watched
    }

    /// Ends the process at once and forgets it; its status is taken when it has ended.
    pub fn abandon(self) {
        self.kill();
        tokio::spawn(async move {
            if let Err(error) = self.wait().await {
                log::debug!("waiting for process {}: {error}", self.pid());
            }
        });
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends the process at once. A process that has ended is left alone.
    pub fn kill(&self) {
        let killed = rustix::process::pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
        if let Err(error) = killed {
            log::debug!("killing process {}: {error}", self.pid());
        }
    }

    /// Waits until the process has ended and takes its status.
    ///
    /// # Errors
    /// What polling or `waitid` answered.
    pub async fn wait(&self) -> io::Result<ChildEnd> {
        loop {
            let mut ready = self.pidfd.readable().await?;
            let id = WaitId::Pid(self.pid);
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if let Some(status) = rustix::process::waitid(id, options)? {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ChildEnd::Code(code),
                    (None, signal) => ChildEnd::Signal(signal.unwrap_or_default()),
                });
            }
            ready.clear_ready();
        }
    }
}

/// When a process was started, in clock ticks since boot, from `/proc/<pid>/stat` (proc(5)).
/// With its number it names a process for good.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may itself hold blanks and parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Kills the process `pid` if it is still the one that was started at `started`, and waits at
/// most `limit` until it is gone. Returns whether it is: one that waits in the host's kernel for
/// storage that does not answer can't end before that does.
pub fn kill_stranger(pid: u32, started: u64, limit: Duration) -> bool {
    let Some(pidfd) = stranger(pid, started) else { return true };
    if let Err(error) = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
        log::debug!("killing process {pid}: {error}");
    }
    wait_gone(pid, &pidfd, limit)
}

/// Waits at most `limit` until the process `pid` that was started at `started` is gone. Returns
/// whether it is.
pub fn wait_stranger(pid: u32, started: u64, limit: Duration) -> bool {
    stranger(pid, started).is_none_or(|pidfd| wait_gone(pid, &pidfd, limit))
}

/// Whether the process `pid` that was started at `started` has not ended. One that has, and that
/// nobody has waited for yet, does not live.
pub fn lives(pid: u32, started: u64) -> bool {
    let Some(pidfd) = stranger(pid, started) else { return false };
    let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    // An error is no proof of its end.
    !matches!(rustix::event::poll(&mut poll, Some(&now)), Ok(ended) if ended > 0)
}

/// The process `pid` if it is still the one that was started at `started`.
fn stranger(pid: u32, started: u64) -> Option<OwnedFd> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty()).ok()?;
    // The pidfd was taken first: if the start time still fits, it is that process's.
    (start_time(pid) == Some(started)).then_some(pidfd)
}

fn wait_gone(pid: u32, pidfd: &OwnedFd, limit: Duration) -> bool {
    let mut poll = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec::try_from(limit).ok();
    match rustix::event::poll(&mut poll, limit.as_ref()) {
        Ok(ended) => ended > 0,
        Err(error) => {
            log::debug!("waiting for process {pid}: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn child_finds_its_descriptors_and_no_others() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // Not close-on-exec, as if inherited: must not reach the child.
        let leak = rustix::io::dup(&writer).unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new("/bin/sh");
        // Not the last command, so that the shell stays, and no pipeline, which needs descriptors.
        command.args(["-c", "ls /proc/$$/fd >&3; exit 0"]).stdin(Stdio::null());
        let mut child = spawn(command, &[writer]).unwrap();
        drop(leak);
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        let mut open: Vec<u32> = text.split_whitespace().map(|fd| fd.parse().unwrap()).collect();
        // Shells keep their own above 9.
        open.retain(|fd| *fd < 10);
        open.sort_unstable();
        assert_eq!(open, [0, 1, 2, 3]);
    }

    #[test]
    fn missing_binary_is_reported_although_low_numbers_are_given_away() {
        let error = spawn(Command::new("/nonexistent"), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    fn watched(script: &str) -> Watched {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Watched::new(spawn(command, &[]).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn end_of_a_child_is_told_by_code_or_signal() {
        assert_eq!(watched("exit 7").wait().await.unwrap(), ChildEnd::Code(7));
        let sleeper = watched("exec sleep 600");
        sleeper.kill();
        assert_eq!(sleeper.wait().await.unwrap(), ChildEnd::Signal(9));
    }

    #[tokio::test]
    async fn abandoned_child_leaves_no_zombie() {
        let child = watched("exec sleep 600");
        let process = format!("/proc/{}", child.pid());
        child.abandon();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while std::path::Path::new(&process).exists() {
            assert!(std::time::Instant::now() < deadline, "{process} is still there");
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn stranger_with_a_reused_number_is_left_alone() {
        let mut child = Command::new("/bin/sleep").arg("600").spawn().unwrap();
        let started = start_time(child.id()).unwrap();
        let limit = std::time::Duration::from_secs(20);
        assert!(kill_stranger(child.id(), started + 1, limit));
        assert!(child.try_wait().unwrap().is_none());
        assert!(kill_stranger(child.id(), started, limit));
        assert!(!child.wait().unwrap().success());
    }
}
