//! Starts the process of a session, with pipes or with a terminal of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::frame::{Request, WindowSize};

/// A running command and the agent's ends of its streams, all of them non-blocking.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Readable once the process has ended.
    pub(super) pidfd: OwnedFd,
    /// Write end of standard input, until it is closed.
    pub(super) stdin: Option<OwnedFd>,
    /// Standard output or the terminal, until end of file.
    pub(super) stdout: Option<OwnedFd>,
    /// Standard error, until end of file; absent with a terminal.
    pub(super) stderr: Option<OwnedFd>,
    /// Whether `stdin` and `stdout` are the controlling side of a terminal.
    pub(super) terminal: bool,
}

impl Process {
    /// Starts the request's command as the leader of a session of its own.
    pub(super) fn spawn(request: &Request) -> io::Result<Self> {
        match request.terminal {
            Some(size) => Self::spawn_with_terminal(request, size),
            None => Self::spawn_with_pipes(request),
        }
    }

    fn spawn_with_pipes(request: &Request) -> io::Result<Self> {
        let mut child = command(request, &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().map(OwnedFd::from);
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        Self::adopt(child, [stdin, stdout, stderr], false)
    }

    fn spawn_with_terminal(request: &Request, size: WindowSize) -> io::Result<Self> {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&control)?;
        unlockpt(&control)?;
        let name = ptsname(&control, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let user = open(name.as_c_str(), flags, Mode::empty())?;
        set_size(&control, size)?;
        let child = command(request, &["--ctty"])
            .stdin(user.try_clone()?)
            .stdout(user.try_clone()?)
            .stderr(user)
            .spawn()?;
        let input = control.try_clone()?;
        Self::adopt(child, [Some(input), Some(control), None], true)
    }

    fn adopt(child: Child, streams: [Option<OwnedFd>; 3], terminal: bool) -> io::Result<Self> {
        let pidfd = pidfd_open(pid(&child)?, PidfdFlags::empty())?;
        for stream in streams.iter().flatten() {
            fcntl_setfl(stream, fcntl_getfl(stream)? | OFlags::NONBLOCK)?;
        }
        let [stdin, stdout, stderr] = streams;
        Ok(Self { child, pidfd, stdin, stdout, stderr, terminal })
    }

    /// Collects the exit status; the process has ended when `pidfd` is readable.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Gives the terminal a new size; without one, does nothing.
    pub(super) fn resize(&self, size: WindowSize) -> io::Result<()> {
        match (&self.stdout, self.terminal) {
            (Some(control), true) => set_size(control, size),
            _ => Ok(()),
        }
    }

    /// Kills the process and everything of its process group, and reaps it.
    pub(super) fn kill(&mut self) {
        if let Ok(pid) = pid(&self.child) {
            // Already gone is as good as killed.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `setsid` makes the command leader of a session and, with `--ctty`, gives it its terminal;
/// it becomes the command, so the process id is the command's own.
fn command(request: &Request, options: &[&str]) -> Command {
    let mut command = Command::new("setsid");
    command.args(options).arg("--").args(&request.argv);
    command.envs(request.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(request.cwd.as_deref().unwrap_or("/root"));
    command
}

fn pid(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("process id out of range"))
}

fn set_size(control: &OwnedFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(control, size)?)
}
