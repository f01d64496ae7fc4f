//! One `cuddy-vmm` process and its control socket. A task of its own owns both. It takes requests,
//! which the VMM answers in order. It tells readiness and the machine's end to all who watch.

pub mod console;
mod control;
mod entering;
pub mod guest;
mod image;
mod launch;
mod live;
mod memory;
pub mod patience;
mod socket;
mod text;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::Error;
use host::spawn::{ChildEnd, Watched};
use tokio::sync::{mpsc, oneshot, watch};
use vmm_api::{Channel, DeviceConfig, MachineConfig, MachineEnd, Reply, Request, Window};

use crate::console::Outputs;
use crate::patience::Patience;
use crate::text::guest_text;
use control::Driver;

pub use control::Control;
pub use guest::configuration;
pub use launch::{Boot, From, Launch, SHARE_TAG, SHARE_WINDOW, Saved, launch};
pub use live::Live;
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
    /// Whether this process wanted it.
    pub by_us: bool,
    /// What became of the VMM's process, if that is known.
    pub exit: Option<ChildEnd>,
}

impl End {
    /// Whether the VMM was killed. Who did it can't be told from this: a process that the kernel
    /// kills takes a while to die, and meets this process's own signal then.
    pub fn killed(&self) -> bool {
        let signal = rustix::process::Signal::KILL.as_raw();
        self.end == MachineEnd::Killed && self.exit == Some(ChildEnd::Signal(signal))
    }
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
    outputs: Outputs,
    process: Arc<Watched>,
    /// Whether this process has told the machine to end.
    told: Arc<AtomicBool>,
    patience: Patience,
    /// Time that it has had until its guest was ready.
    booted_in: OnceLock<Duration>,
    /// The same of the machine that was saved, for one that goes on from there.
    boot_before: Duration,
}

impl Machine {
    /// This process's end of the way to a VMM.
    ///
    /// # Errors
    /// [`Error::Failed`] when it can't be watched.
    pub fn channel(channel: Channel) -> Result<Control, Error> {
        Control::new(channel).map_err(|e| Error::failed("making the control socket", &e))
    }

    /// The machine of the VMM that is `process` and has the other end of `control`.
    pub fn of(
        process: Arc<Watched>,
        control: Control,
        shape: MachineConfig,
        outputs: Outputs,
    ) -> Self {
        let (orders, orders_rx) = mpsc::channel(16);
        let (life_tx, life) = watch::channel(Life::default());
        let told = Arc::<AtomicBool>::default();
        let driver = Driver {
            control,
            process: process.clone(),
            orders: orders_rx,
            life: life_tx,
            outputs: outputs.clone(),
            told: told.clone(),
            noted: control::Noted::default(),
        };
        tokio::spawn(driver.run());
        let pid = process.pid();
        let patience = Patience::with(vec![pid, std::process::id()]);
        let booted_in = OnceLock::new();
        let boot_before = Duration::ZERO;
        Self { pid, shape, orders, life, outputs, process, told, patience, booted_in, boot_before }
    }

    /// The same, which goes on where another one was whose guest took so long to boot.
    #[must_use]
    pub fn after(self, boot_before: Duration) -> Self {
        Self { boot_before, ..self }
    }

    /// Boots it; returns once its first vCPU runs.
    ///
    /// # Errors
    /// [`Error::MachineEnded`], or the VMM's reason.
    pub async fn boot(&self, boot: Boot) -> Result<(), Error> {
        let Boot { config, fds, entering } = boot;
        match self.request(Request::Boot(config), fds).await? {
            Reply::Done => {}
            other => return Err(unexpected("booting the machine", other)),
        }
        // The pod's limits hold for this process, too, before anybody can use the pod.
        match entering {
            Some(entering) => entering.done().await,
            None => Ok(()),
        }
    }

    /// Process id of the VMM.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its size, which never changes.
    pub fn shape(&self) -> &MachineConfig {
        &self.shape
    }

    /// With what patience it is waited for.
    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Waits until the guest's agent serves; returns the microseconds it took.
    ///
    /// # Errors
    /// [`Error::MachineEnded`] when the machine ends before, [`Error::Unavailable`] when it has had
    /// `limit`; both with the last console lines.
    pub async fn ready(&self, limit: Duration) -> Result<u64, Error> {
        let mut life = self.life.clone();
        let known = life.wait_for(|life| life.ready_us.is_some() || life.end.is_some());
        let spent = self.patience.limit(limit, known).await;
        let (words, counted) = (spent.in_words(), spent.counted);
        match spent.outcome {
            Some(Ok(life)) => match (&life.end, life.ready_us) {
                (None, Some(took)) => {
                    // It is asked for once.
                    let _again = self.booted_in.set(counted);
                    Ok(took)
                }
                (Some(end), _) => Err(Error::MachineEnded(end.reason.clone())),
                (None, None) => Err(Error::MachineEnded("unknown".into())),
            },
            Some(Err(_)) => Err(Error::MachineEnded("its owner is gone".into())),
            None => Err(Error::Unavailable(format!(
                "the guest was not ready within {words}; last console lines: {}",
                self.outputs.console.last_lines()
            ))),
        }
    }

    /// How long the guest took from its first instruction until its agent was ready, in
    /// microseconds, once that is known.
    pub fn boot_us(&self) -> Option<u64> {
        self.life.borrow().boot_us
    }

    /// The same, without what the machine waited for a CPU. That of the machine that was saved, for
    /// one that goes on from there: it tells how fast the host is.
    pub fn booted_in(&self) -> Duration {
        let boot = Duration::from_micros(self.boot_us().unwrap_or_default());
        self.booted_in.get().map_or(boot, |counted| boot.min(*counted)).max(self.boot_before)
    }

    /// How the machine ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.life.borrow().end.clone()
    }

    /// Waits until the machine is over.
    pub async fn ended(&self) -> End {
        let mut life = self.life.clone();
        let end = match life.wait_for(|life| life.end.is_some()).await {
            Ok(life) => life.end.clone(),
            Err(_) => None,
        };
        end.unwrap_or_else(|| End {
            end: MachineEnd::Killed,
            reason: "unknown".into(),
            by_us: false,
            exit: None,
        })
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

    /// Stops all vCPUs.
    ///
    /// # Errors
    /// [`Error::MachineEnded`], or the VMM's reason.
    pub async fn pause(&self) -> Result<(), Error> {
        self.done("pausing the machine", Request::Pause).await
    }

    /// Lets paused vCPUs run.
    ///
    /// # Errors
    /// As of [`Self::pause`].
    pub async fn resume(&self) -> Result<(), Error> {
        self.done("letting the machine go on", Request::Resume).await
    }

    /// Writes the state of the paused machine, which was launched to be saved, to an empty file. The
    /// machine ends then. One that can't be saved stays paused.
    ///
    /// # Errors
    /// [`Error::State`] or [`Error::Failed`] with the VMM's reason.
    pub async fn save(&self, state: OwnedFd) -> Result<(), Error> {
        let request = Request::Save { state: vmm_api::FdSlot(0) };
        match self.request(request, vec![state]).await? {
            Reply::Done => {
                self.told.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => Err(unexpected("saving the machine", other)),
        }
    }

    /// Ends the machine at once.
    ///
    /// # Errors
    /// [`Error::MachineEnded`] when it is over already.
    pub async fn stop(&self) -> Result<(), Error> {
        self.told.store(true, Ordering::Relaxed);
        self.done("stopping the machine", Request::Stop).await
    }

    /// Ends the VMM's process by force: it does not do what it is told.
    pub fn kill(&self) {
        self.told.store(true, Ordering::Relaxed);
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
        let spent = self.patience.limit(ANSWER, answer).await;
        let late = spent.in_words();
        match spent.outcome {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(_)) => Err(Error::MachineEnded(self.ended().await.reason)),
            None => Err(Error::Unavailable(format!("the VMM has not answered for {late}"))),
        }
    }
}

fn unexpected(doing: &str, reply: Reply) -> Error {
    use vmm_api::ErrorKind;
    match reply {
        Reply::Failed(error) => {
            let text = format!("{doing}: {}", guest_text(&error.message));
            match error.kind {
                ErrorKind::Invalid => Error::Invalid(text),
                ErrorKind::State => Error::State(text),
                ErrorKind::NoWindow | ErrorKind::Host => Error::Failed(text),
            }
        }
        other => {
            let answer = guest_text(&format!("{other:?}"));
            Error::Failed(format!("{doing}: the VMM answered {answer}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use vmm_api::{MachineState, MachineStatus};

    use super::*;

    #[test]
    fn answer_that_nobody_asked_for_makes_a_short_error() {
        let windows = vec![Window::try_from(1).unwrap(); 30_000];
        let status = MachineStatus { state: MachineState::Running, windows };
        let text = unexpected("stopping the machine", Reply::Status(status)).to_string();
        assert!(text.len() < 2048 && text.contains("Running"), "{} bytes", text.len());
    }
}
