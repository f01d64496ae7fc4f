//! `container-init`: the program between the agent and a workload. The agent has threads and an
//! event loop. A fork of it could do hardly anything safely, so it executes itself under this name.
//! The process that runs here has one thread, so it may fork and go on.
//!
//! ```text
//! agent ─exec─► first process: joins and makes namespaces, forks, reports the child, ends
//!                  └─► second process (in the new pid namespace): mounts, devices, root,
//!                      credentials; reports "created"; at "start" executes the workload
//! ```
//! Each part of the OCI runtime specification has a file of its own.

mod apparmor;
mod capabilities;
mod copy_up;
mod credentials;
mod detached;
mod devices;
mod failure;
mod hooks;
mod identity;
mod keyring;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
mod outside;
mod premade;
mod program;
mod rlimits;
mod root;
mod rooted;
mod scheduling;
mod seccomp;
mod stdio;
mod terminal;
mod user_namespace;
mod uts;
mod workload;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;

use crate::control::{self, Command, Failure, Incoming, Order, Report};
use crate::oci::NamespaceType;
use crate::sys::process::{Fork, fork, fork_into};
use apparmor::Confinement;
use failure::Context;
use premade::Premade;

pub(crate) use detached::{bind_place, mount_detached};
pub(crate) use rooted::Rooted;
pub(crate) use seccomp::compile as compile_seccomp;
pub(crate) use uts::set_sysctls;

/// The word by which the agent calls itself to be this program.
pub(crate) const NAME: &str = "container-init";

/// The channel to the agent; closed by a successful execve(2).
struct Channel {
    socket: OwnedFd,
    incoming: Incoming,
}

impl Channel {
    /// Takes standard input, which the agent made the channel, out of the workload's way.
    fn from_stdin() -> std::io::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        Ok(Self { socket, incoming: Incoming::default() })
    }

    fn report(&self, report: &Report) -> Result<(), Failure> {
        control::send(self.socket.as_fd(), report, &[]).context("report to the agent")
    }

    fn report_terminal(&self, terminal: &OwnedFd) -> Result<(), Failure> {
        control::send(self.socket.as_fd(), &Report::Terminal, &[terminal.as_fd()])
            .context("pass the terminal to the agent")
    }

    fn order(&mut self) -> Result<(Order, Vec<OwnedFd>), Failure> {
        let order = control::receive(&self.socket, &mut self.incoming)
            .context("read the order of the agent")?
            .ok_or_else(|| Failure::guest("the agent gave no order"))?;
        self.incoming.read_plainly();
        Ok((order, self.incoming.take_descriptors()))
    }

    /// Waits for a command; an agent that has given up closed the channel.
    fn expect(&mut self, expected: Command) -> Result<(), Failure> {
        let command: Option<Command> =
            control::receive(&self.socket, &mut self.incoming).context("wait for the agent")?;
        if command == Some(expected) { Ok(()) } else { Err(Failure::guest("the agent gave up")) }
    }
}

/// What the first process has prepared for the second.
struct Inherited {
    /// Standard streams; none with a terminal.
    streams: Vec<OwnedFd>,
    confinement: Option<Confinement>,
    premade: Premade,
}

/// Runs this program. Returns only on failure, or in the first process.
pub(crate) fn main() -> ExitCode {
    let Ok(mut channel) = Channel::from_stdin() else { return ExitCode::FAILURE };
    match run(&mut channel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // An agent that is gone cannot be told.
            let _ = channel.report(&Report::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

fn run(channel: &mut Channel) -> Result<(), Failure> {
    let (order, mut descriptors) = channel.order()?;
    // All others have been opened with close-on-exec.
    rustix::io::fcntl_setfd(&channel.socket, FdFlags::CLOEXEC).context("mark the channel")?;
    // Through the guest's own /proc, and while nothing limits this process yet.
    workload::set_oom_score(&order.process)?;
    let confinement = apparmor::prepare(&order)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cgroup = rustix::fs::open(&order.cgroup, flags, Mode::empty());
    let cgroup = cgroup.context("open the container's cgroup")?;
    let mut premade = Premade::default();
    if order.join {
        scheduling::apply_initial_affinity(&order.process)?;
        let target = descriptors.pop().ok_or_else(|| Failure::guest("no pidfd"))?;
        namespaces::join_container(&order.spec.linux, target.as_fd())?;
    } else {
        premade = namespaces::enter(&order.spec)?;
    }
    let (wait, release) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("make a pipe")?;
    let (forked, placed) = fork_for(&order, cgroup.as_fd())?;
    match forked {
        Fork::Parent(pid) => {
            drop(wait);
            channel.report(&Report::Forked { pid, placed })?;
            first_process(channel, &release)
        }
        Fork::Child => {
            drop(release);
            // One byte means that the agent knows this process; the end that it gave up.
            let released = rustix::io::read(&wait, &mut [0; 1]).context("wait for release")?;
            if released == 0 {
                std::process::exit(1);
            }
            drop(wait);
            let inherited = Inherited { streams: descriptors, confinement, premade };
            workload::become_workload(channel, order, inherited)
        }
    }
}

/// Forks; and whether the child is in the container's cgroup. Where not, the agent moves it.
fn fork_for(order: &Order, cgroup: BorrowedFd<'_>) -> Result<(Fork, bool), Failure> {
    // Its users have no right to the cgroup. What fails once in a pid namespace without processes
    // fails always, so this is not tried.
    if order.spec.linux.namespace(NamespaceType::User).is_some() {
        return Ok((fork().context("fork")?, false));
    }
    match fork_into(cgroup) {
        // The agent knows where in the container's own cgroups processes may be, and is not stopped
        // by their number.
        Err(_) if order.join => Ok((fork().context("fork")?, false)),
        forked => Ok((forked.context("fork into the container's cgroup")?, true)),
    }
}

/// The first process stays until the agent has registered the child: until then nobody can
/// reap the child, so its id stays its own.
fn first_process(channel: &mut Channel, release: &OwnedFd) -> Result<(), Failure> {
    channel.expect(Command::Proceed)?;
    rustix::io::write(release, &[1]).context("release the child")?;
    // What arrived after `Proceed` would be the child's; the agent sends nothing before a report.
    Ok(())
}
