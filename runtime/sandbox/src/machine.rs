//! One `cuddy-vmm` process and its control socket. A task of its own owns both ends: requests go
//! in and are answered in order; readiness and the machine's end are told to all who watch.

mod control;
mod image;
mod launch;
mod memory;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use vmm_api::{DeviceConfig, MachineConfig, MachineEnd, Reply, Request, Window};

use crate::Error;
use crate::console::Console;
use crate::spawn::Watched;

pub(crate) use launch::SHARE_TAG;
pub use launch::{Launch, launch};
pub use memory::guest_memory;

/// Deadline of a request to the VMM.
const ANSWER: Duration = Duration::from_secs(30);

/// What is known of a machine's life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Life {
    /// Microseconds from the VMM's start until the agent served.
    pub ready_us: Option<u64>,
    /// How much of it the guest's own boot took, from its first instruction on.
    pub boot_us: Option<u64>,
    /// How the machine ended.
    pub end: Option<End>,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What the VMM said, or [`MachineEnd::Killed`] if it said nothing.
    pub end: MachineEnd,
    /// The whole story in one line: reason, what became of the process, last console lines.
    pub reason: String,
}

#[derive(Debug)]
struct Order {
    request: Request,
    fds: Vec<OwnedFd>,
    reply: oneshot::Sender<Reply>,
}

/// A machine. The last handle's drop ends it.
#[derive(Debug)]
pub struct Machine {
    pid: u32,
    shape: MachineConfig,
    orders: mpsc::Sender<Order>,
    life: watch::Receiver<Life>,
    console: Console,
    process: Arc<Watched>,
}

impl Machine {
    /// Process id of the VMM.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its size, which never changes.
    pub fn shape(&self) -> &MachineConfig {
        &self.shape
    }

    /// The guest's console output.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Waits until the guest's agent serves; returns the microseconds it took.
    ///
    /// # Errors
    /// [`Error::MachineEnded`] when the machine ends before, [`Error::Deadline`] after `limit`;
    /// both with the last console lines.
    pub async fn ready(&self, limit: Duration) -> Result<u64, Error> {
        let mut life = self.life.clone();
        let known = life.wait_for(|life| life.ready_us.is_some() || life.end.is_some());
        match tokio::time::timeout(limit, known).await {
            Ok(Ok(life)) => match (&life.end, life.ready_us) {
                (None, Some(took)) => Ok(took),
                (Some(end), _) => Err(Error::MachineEnded(end.reason.clone())),
                (None, None) => Err(Error::MachineEnded("unknown".into())),
            },
            Ok(Err(_)) => Err(Error::MachineEnded("its owner is gone".into())),
            Err(_) => Err(Error::Deadline(format!(
                "the guest was not ready within {} s; last console lines: {}",
                limit.as_secs(),
                self.console.last_lines()
            ))),
        }
    }

    /// How long the guest took from its first instruction until its agent was ready, in
    /// microseconds, once that is known.
    pub fn boot_us(&self) -> Option<u64> {
        self.life.borrow().boot_us
    }

    /// Waits until the machine is over.
    pub async fn ended(&self) -> End {
        let mut life = self.life.clone();
        let end = match life.wait_for(|life| life.end.is_some()).await {
            Ok(life) => life.end.clone(),
            Err(_) => None,
        };
        end.unwrap_or_else(|| End { end: MachineEnd::Killed, reason: "unknown".into() })
    }

    /// Puts a device into a window.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Failed`] with the VMM's reason.
    pub async fn attach(&self, device: DeviceConfig, fds: Vec<OwnedFd>) -> Result<Window, Error> {
        match self.request(Request::Attach(device), fds).await? {
            Reply::Attached(window) => Ok(window),
            other => Err(unexpected("attaching a device", other)),
        }
    }

    /// Empties a window that the guest has let go of.
    ///
    /// # Errors
    /// [`Error::Failed`] with the VMM's reason.
    pub async fn detach(&self, window: Window) -> Result<(), Error> {
        self.done("detaching a device", Request::Detach(window)).await
    }

    /// Ends the machine at once.
    ///
    /// # Errors
    /// [`Error::MachineEnded`] when it is over already.
    pub async fn stop(&self) -> Result<(), Error> {
        self.done("stopping the machine", Request::Stop).await
    }

    /// Ends the VMM's process by force: it does not do what it is told.
    pub fn kill(&self) {
        self.process.kill();
    }

    async fn done(&self, doing: &str, request: Request) -> Result<(), Error> {
        match self.request(request, Vec::new()).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(doing, other)),
        }
    }

    async fn request(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order { request, fds, reply }).await.is_err() {
            return Err(Error::MachineEnded(self.ended().await.reason));
        }
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(Error::MachineEnded(self.ended().await.reason)),
            Err(_) => Err(Error::Deadline("the VMM does not answer".into())),
        }
    }
}

fn unexpected(doing: &str, reply: Reply) -> Error {
    use vmm_api::ErrorKind;
    match reply {
        Reply::Failed(error) => {
            let text = format!("{doing}: {error}");
            match error.kind {
                ErrorKind::Invalid => Error::Invalid(text),
                ErrorKind::State => Error::State(text),
                ErrorKind::NoWindow | ErrorKind::Host => Error::Failed(text),
            }
        }
        other => Error::Failed(format!("{doing}: the VMM answered {other:?}")),
    }
}
