//! The agent's side of [`container-init`](crate::init): starts it, follows its reports, and
//! hands out the process that it becomes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use oci_spec::runtime::User;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::cgroup::{Cgroup, CgroupError, Scarce};
use crate::control::{self, Command, Failure, Incoming, Order, Report};
use crate::init;
use crate::pod_users::Making;
use crate::reaper::{Exit, Reaper};
use crate::sys;

/// Why no process came to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// `container-init` said why.
    #[error(transparent)]
    Failed(Failure),
    /// It ended without a word.
    #[error("container-init ended while it was {0}")]
    Ended(&'static str),
    /// It was killed for want of memory, which it has within the container's limit.
    #[error("out of memory: container-init was killed while it was {doing}; {scarce}")]
    OutOfMemory {
        /// What it did.
        doing: &'static str,
        /// What there was too little of.
        scarce: Scarce,
    },
    /// The process could not be put under its limits.
    #[error("move the process into its cgroup")]
    Cgroup(#[from] CgroupError),
    /// The guest failed.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn io_error<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> LaunchError {
    move |source| LaunchError::Io { doing, source: source.into() }
}

/// A process up to the execution of its program.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Its id in the guest's first pid namespace.
    pub(crate) pid: i32,
    /// Refers to it and never to a later process of the same id.
    pub(crate) pidfd: OwnedFd,
    /// Its exit, which may already be there.
    pub(crate) exit: oneshot::Receiver<Exit>,
    /// Controlling side of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// Who it is.
    pub(crate) user: User,
    /// Lets it go on.
    pub(crate) gate: Gate,
}

/// A process waits behind it. Dropping it makes the process end.
#[derive(Debug)]
pub(crate) struct Gate(Channel);

impl Gate {
    /// Lets the process execute its program and waits until it does.
    ///
    /// # Errors
    /// The program cannot be executed.
    pub(crate) async fn open(mut self) -> Result<(), LaunchError> {
        self.0.send(&Command::Start, &[]).await?;
        match self.0.receive().await? {
            None => Ok(()),
            Some(Report::Failed(failure)) => Err(LaunchError::Failed(failure)),
            Some(_) => Err(LaunchError::Ended("starting")),
        }
    }
}

#[derive(Debug)]
struct Channel {
    socket: AsyncFd<OwnedFd>,
    incoming: Incoming,
}

impl Channel {
    async fn send(
        &self,
        message: &impl serde::Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), LaunchError> {
        let failed = io_error::<io::Error>;
        let frame = control::encode(message).map_err(failed("encode a message"))?;
        let mut sent = 0;
        while sent < frame.len() {
            let descriptors = if sent == 0 { descriptors } else { &[] };
            let part = self.socket.async_io(tokio::io::Interest::WRITABLE, |socket| {
                control::send_part(socket.as_fd(), &frame[sent..], descriptors)
            });
            sent += match part.await {
                // It ended; why is in its last report.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other.map_err(failed("talk to container-init"))?,
            };
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Report>, LaunchError> {
        let failed = io_error::<io::Error>;
        loop {
            let frame = self.incoming.take().map_err(failed("understand container-init"))?;
            if frame.is_some() {
                return Ok(frame);
            }
            let incoming = &mut self.incoming;
            let filled = self.socket.async_io_mut(tokio::io::Interest::READABLE, |socket| {
                incoming.fill(socket.as_fd())
            });
            match filled.await {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                other => other.map_err(failed("listen to container-init"))?,
            };
        }
    }

    /// The next report; a failure or the end is an error.
    async fn next(&mut self, doing: &'static str) -> Result<Report, LaunchError> {
        match self.receive().await? {
            Some(Report::Failed(failure)) => Err(LaunchError::Failed(failure)),
            Some(report) => Ok(report),
            None => Err(LaunchError::Ended(doing)),
        }
    }
}

/// The first process of the container that an exec joins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Its id.
    pub(crate) pid: i32,
    /// Refers to it.
    pub(crate) pidfd: BorrowedFd<'a>,
}

/// Whose namespaces a process lives in.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// Its own, among which may be the pod's user namespace.
    Own(Option<Making<'a>>),
    /// Those of a running container.
    Joined(Target<'a>),
}

/// Starts `container-init` and follows it until the process waits for its start. `streams` are
/// its three standard streams, or none with a terminal.
///
/// # Errors
/// The process cannot be made; nothing of it is left.
pub(crate) async fn launch(
    reaper: &Reaper,
    cgroup: &Cgroup,
    order: &Order,
    streams: &[OwnedFd],
    place: Place<'_>,
) -> Result<Launched, LaunchError> {
    // Kills of processes that run in the container already are none of this one's.
    let killed = cgroup.oom_kills();
    let made = follow(reaper, cgroup, order, streams, place).await;
    made.map_err(|error| match error {
        LaunchError::Ended(doing) if cgroup.oom_kills() > killed => {
            LaunchError::OutOfMemory { doing, scarce: cgroup.scarce() }
        }
        other => other,
    })
}

async fn follow(
    reaper: &Reaper,
    cgroup: &Cgroup,
    order: &Order,
    streams: &[OwnedFd],
    place: Place<'_>,
) -> Result<Launched, LaunchError> {
    let mut channel = spawn()?;
    let target = match &place {
        Place::Own(_) => None,
        Place::Joined(target) => Some(*target),
    };
    let descriptors = streams.iter().map(AsFd::as_fd).chain(target.map(|target| target.pidfd));
    channel.send(order, &descriptors.collect::<Vec<_>>()).await?;
    let (pid, placed) = match channel.next("making namespaces").await? {
        Report::Forked { pid, placed } => (pid, placed),
        _ => return Err(LaunchError::Ended("making namespaces")),
    };
    // Its parent waits for `Proceed` and does not reap: until then the id cannot be reused.
    let exit = reaper.register(pid);
    let pidfd = Pid::from_raw(pid)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(io_error("open a pidfd"))?;
    if !placed {
        cgroup.enter(pid, target.map(|target| target.pid))?;
    }
    if let Place::Own(Some(making)) = place {
        // Others of the pod may have it from now on, however long the rest takes.
        making.keep(pid).map_err(io_error("keep the pod's user namespace"))?;
    }
    channel.send(&Command::Proceed, &[]).await?;
    let mut terminal = None;
    let user = loop {
        match channel.next("preparing the container").await? {
            Report::Terminal => terminal = channel.incoming.take_descriptors().pop(),
            Report::Created { user } => break user,
            Report::Forked { .. } | Report::Failed(_) => {
                return Err(LaunchError::Ended("preparing the container"));
            }
        }
    };
    Ok(Launched { pid, pidfd, exit, terminal, user, gate: Gate(channel) })
}

/// Executes this program again. Its standard input is the channel; of its own it says nothing.
fn spawn() -> Result<Channel, LaunchError> {
    let (ours, theirs) = UnixStream::pair().map_err(io_error("make a channel"))?;
    ours.set_nonblocking(true).map_err(io_error("prepare the channel"))?;
    let child = std::process::Command::new("/proc/self/exe")
        .arg0(init::NAME)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(io_error("execute container-init"))?;
    // The reaper collects it.
    drop(child);
    let socket = sys::watch::watch(ours.into()).map_err(io_error("watch the channel"))?;
    Ok(Channel { socket, incoming: Incoming::default() })
}
