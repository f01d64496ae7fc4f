//! A process of a container: its init, or an exec.
//!
//! ```text
//! Added ──prepare──► Created ──start──► Started ──exit──► (exit is set)
//!   └───────────────────┴── failure or kill: the exit is set without Started
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use oci_spec::runtime::User;
use rustix::termios::Winsize;
use tokio::sync::{Mutex, watch};

use crate::cgroup::Cgroup;
use crate::control::Order;
use crate::error::{Error, Result};
use crate::launch::{Gate, Place, Target, launch};
use crate::reaper::{Exit, Reaper, now_unix_ns};
use crate::stdio::{Connections, Endpoint, ExitWatch, Streams, endpoint};
use crate::sys;

/// Exit status of a process that could not be made, as a shell's for a command not found.
const NEVER_RAN: u32 = 127;

/// What a process waits for.
#[derive(Debug)]
enum Phase {
    /// Nothing exists yet but the wish.
    Added(Box<Wish>),
    /// It waits to execute its program.
    Created(Gate),
    /// Its program runs or has ended.
    Started,
    /// It could not be made.
    Failed,
}

/// What is wanted.
#[derive(Debug)]
struct Wish {
    order: Order,
    streams: agent_api::types::Streams,
}

/// A process that waits to execute its program.
#[derive(Debug)]
pub(crate) struct Created {
    /// Its id in the guest's first pid namespace.
    pub(crate) pid: i32,
    /// Who it is.
    pub(crate) user: User,
}

/// The kernel's side of a process.
#[derive(Debug)]
struct Handle {
    pid: i32,
    pidfd: OwnedFd,
    terminal: Option<Endpoint>,
}

/// A process. Its lock is held only while it is prepared or started.
#[derive(Debug)]
pub(crate) struct Process {
    exec_id: String,
    phase: Mutex<Phase>,
    handle: OnceLock<Handle>,
    exit: watch::Sender<Option<Exit>>,
    started: watch::Sender<bool>,
    /// It was killed before it existed, and must not start.
    cancelled: AtomicBool,
}

/// What processes are made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workshop<'a> {
    /// Reports exits.
    pub(crate) reaper: &'a Reaper,
    /// Connections of the host.
    pub(crate) streams: &'a Streams,
    /// The container's cgroup.
    pub(crate) cgroup: &'a Cgroup,
}

impl Process {
    /// A process to be made.
    pub(crate) fn new(exec_id: String, order: Order, streams: agent_api::types::Streams) -> Self {
        Self {
            exec_id,
            phase: Mutex::new(Phase::Added(Box::new(Wish { order, streams }))),
            handle: OnceLock::new(),
            exit: watch::Sender::new(None),
            started: watch::Sender::new(false),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Its id in the container; empty for init.
    pub(crate) fn exec_id(&self) -> &str {
        &self.exec_id
    }

    /// Its process id in the guest, once it is created.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.handle.get().map(|handle| handle.pid)
    }

    /// Refers to it, once it is created.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.handle.get().map(|handle| handle.pidfd.as_fd())
    }

    /// What an exec joins, once it is created.
    pub(crate) fn target(&self) -> Option<Target<'_>> {
        let handle = self.handle.get()?;
        Some(Target { pid: handle.pid, pidfd: handle.pidfd.as_fd() })
    }

    /// Its exit, now or later.
    pub(crate) fn watch_exit(&self) -> ExitWatch {
        self.exit.subscribe()
    }

    /// Whether its program has been executed.
    pub(crate) fn has_started(&self) -> bool {
        *self.started.borrow()
    }

    /// Whether it has ended.
    pub(crate) fn has_exited(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Whether a process exists.
    pub(crate) fn is_alive(&self) -> bool {
        self.handle.get().is_some() && !self.has_exited()
    }

    /// Makes the process up to the execution of its program.
    ///
    /// # Errors
    /// It cannot be made, or was made already.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        workshop: Workshop<'_>,
        place: Place<'_>,
    ) -> Result<Created> {
        let mut phase = self.phase.lock().await;
        let wish = match std::mem::replace(&mut *phase, Phase::Failed) {
            Phase::Added(wish) => wish,
            other => {
                *phase = other;
                return Err(Error::State("process was started already"));
            }
        };
        match self.make(workshop, &wish, place).await {
            Ok((created, gate)) => {
                *phase = Phase::Created(gate);
                Ok(created)
            }
            Err(error) => {
                // Who waits for it must not wait for ever.
                let never_ran = Exit { status: NEVER_RAN, at_unix_ns: now_unix_ns() };
                self.exit.send_replace(Some(never_ran));
                Err(error)
            }
        }
    }

    async fn make(
        self: &Arc<Self>,
        workshop: Workshop<'_>,
        wish: &Wish,
        place: Place<'_>,
    ) -> Result<(Created, Gate)> {
        let Workshop { reaper, streams, cgroup } = workshop;
        let connections = Connections::claim(streams, &wish.streams).await?;
        let order = &wish.order;
        let (launched, copies) = if order.process.terminal {
            let mut launched = launch(reaper, cgroup, order, &[], place).await?;
            let terminal =
                launched.terminal.take().ok_or(Error::State("the terminal did not arrive"))?;
            let terminal = endpoint(terminal).map_err(Error::io("prepare the terminal"))?;
            let copies = connections.terminal(&terminal);
            (Made { launched, terminal: Some(terminal) }, copies)
        } else {
            let (ends, copies) = connections.pipes().map_err(Error::io("make pipes"))?;
            let launched = launch(reaper, cgroup, order, &ends, place).await?;
            (Made { launched, terminal: None }, copies)
        };
        let Made { launched, terminal } = launched;
        let handle = Handle { pid: launched.pid, pidfd: launched.pidfd, terminal };
        // The phase's lock is held, and only `Added` leads here: it is empty.
        let _ = self.handle.set(handle);
        copies.start(&self.exit.subscribe());
        let process = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(exit) = launched.exit.await {
                process.exit.send_replace(Some(exit));
            }
        });
        Ok((Created { pid: launched.pid, user: launched.user }, launched.gate))
    }

    /// Executes the program of a created process.
    ///
    /// # Errors
    /// It was started already, or the program cannot be executed.
    pub(crate) async fn start(&self) -> Result<i32> {
        let mut phase = self.phase.lock().await;
        match std::mem::replace(&mut *phase, Phase::Failed) {
            // It ends as its gate is dropped.
            Phase::Created(_) if self.cancelled.load(Ordering::SeqCst) => {
                return Err(Error::State("process was killed before its start"));
            }
            Phase::Created(gate) => gate.open().await?,
            other => {
                *phase = other;
                return Err(Error::State("process is not in created state"));
            }
        }
        *phase = Phase::Started;
        self.started.send_replace(true);
        self.pid().ok_or(Error::State("process has no id"))
    }

    /// Never starts the process if it does not exist yet.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Sends a signal; 0 only checks. What does not exist yet is never started after SIGKILL.
    ///
    /// # Errors
    /// The process does not exist any more, or not yet.
    pub(crate) fn signal(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL && self.pidfd().is_none() {
            // Who makes it sees this, or is seen below.
            self.cancel();
        }
        let pidfd = self.pidfd().ok_or(Error::State("process is not created"))?;
        if self.has_exited() {
            return Err(Error::NoProcess(self.exec_id.clone()));
        }
        sys::signal::send(pidfd, signal).map_err(|source| match source.raw_os_error() {
            Some(libc::ESRCH) => Error::NoProcess(self.exec_id.clone()),
            _ => Error::Io { doing: format!("send signal {signal}"), source },
        })
    }

    /// Sets the size of its terminal in characters; without a terminal nothing happens.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let Some(terminal) = self.handle.get().and_then(|handle| handle.terminal.as_ref()) else {
            return Ok(());
        };
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal.get_ref(), size)
            .map_err(Error::io("resize the terminal"))
    }

    /// Waits for the exit.
    pub(crate) async fn wait(&self) -> Exit {
        let mut watch = self.watch_exit();
        match watch.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => exit,
            // The sender is part of this process and lives as long.
            _ => std::future::pending().await,
        }
    }
}

struct Made {
    launched: crate::launch::Launched,
    terminal: Option<Endpoint>,
}
