//! The task that owns a VMM's control socket and process.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use vmm_api::{
    Channel, ErrorKind, ErrorReply, Event, FromVmm, MachineEnd, Reply, Request, WireError,
};

use super::{End, Life, Order};
use crate::console::Console;
use crate::spawn::{self, Watched};

/// How long a VMM may take to end its machine once it was asked to. A worker that is stuck in
/// the host's storage can keep it from ever doing so.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How long a VMM that has said its last word may take to exit.
const LAST_BREATH: Duration = Duration::from_secs(5);

struct Socket(Channel);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The control socket as a tokio resource.
pub(super) struct Control(AsyncFd<Socket>);

impl Control {
    pub(super) fn new(channel: Channel) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&channel, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self(spawn::register(Socket(channel), interest)?))
    }

    async fn send(&self, order: &Order) -> Result<(), WireError> {
        let fds: Vec<BorrowedFd<'_>> = order.fds.iter().map(AsFd::as_fd).collect();
        loop {
            let mut ready = self.0.writable().await.map_err(os_error)?;
            match self.0.get_ref().0.send(&order.request, &fds) {
                Err(WireError::Socket(rustix::io::Errno::AGAIN)) => ready.clear_ready(),
                sent => return sent,
            }
        }
    }

    async fn recv(&self) -> Result<FromVmm, WireError> {
        loop {
            let mut ready = self.0.readable().await.map_err(os_error)?;
            match self.0.get_ref().0.recv::<FromVmm>() {
                Err(WireError::Socket(rustix::io::Errno::AGAIN)) => ready.clear_ready(),
                received => return received.map(|(message, _)| message),
            }
        }
    }
}

fn os_error(error: std::io::Error) -> WireError {
    WireError::Socket(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
}

pub(super) struct Driver {
    pub(super) control: Control,
    pub(super) process: Arc<Watched>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) life: watch::Sender<Life>,
    pub(super) console: Console,
}

impl Driver {
    /// Serves until the machine is over and its process reaped.
    pub(super) async fn run(mut self) {
        let said = self.serve().await;
        // The closed socket ends a VMM that still lives.
        drop(self.control);
        let exit = match tokio::time::timeout(LAST_BREATH, self.process.wait()).await {
            Ok(exit) => exit,
            Err(_) => {
                self.process.kill();
                self.process.wait().await
            }
        };
        self.console.complete().await;
        let exit = match exit {
            Ok(exit) => format!("its process {exit}"),
            Err(error) => format!("its process can't be waited for: {error}"),
        };
        let end = match said {
            Some(end) => End { reason: story(&end, None, &self.console), end },
            None => {
                let reason = story(&MachineEnd::Killed, Some(&exit), &self.console);
                End { end: MachineEnd::Killed, reason }
            }
        };
        log::info!("machine over: {}; {exit}", end.reason);
        self.life.send_modify(|life| life.end = Some(end));
    }

    async fn serve(&mut self) -> Option<MachineEnd> {
        let mut open: VecDeque<oneshot::Sender<Reply>> = VecDeque::new();
        let mut stop_by = None;
        loop {
            let message = tokio::select! {
                order = self.orders.recv() => {
                    // No handle is left: nobody wants the machine any more.
                    let Some(order) = order else { return Some(MachineEnd::Stopped) };
                    if order.request == Request::Stop {
                        stop_by.get_or_insert_with(|| Instant::now() + STOP_LIMIT);
                    }
                    open.extend(self.ask(order).await);
                    continue;
                }
                message = self.control.recv() => message,
                () = passed(stop_by) => {
                    log::error!("the VMM did not stop in {} s, killing it", STOP_LIMIT.as_secs());
                    self.process.kill();
                    return Some(MachineEnd::Stopped);
                }
            };
            match message {
                Ok(FromVmm::Reply(reply)) => {
                    // Whoever asked may have given up.
                    let _late = open.pop_front().map(|asked| asked.send(reply));
                }
                Ok(FromVmm::Event(Event::Ended(end))) => return Some(end),
                Ok(FromVmm::Event(event)) => self.note(&event),
                Err(WireError::Closed) => return None,
                Err(error) => {
                    log::warn!("control socket of the VMM: {error}");
                    return None;
                }
            }
        }
    }

    /// Sends a request; who waits for the reply, or nobody if it could not be sent. What the VMM
    /// said last is still to be read then.
    async fn ask(&self, order: Order) -> Option<oneshot::Sender<Reply>> {
        let Err(error) = self.control.send(&order).await else { return Some(order.reply) };
        log::warn!("asking the VMM: {error}");
        let message = format!("asking the VMM: {error}");
        let failed = ErrorReply { kind: ErrorKind::Host, message };
        // Whoever asked may have given up.
        let _late = order.reply.send(Reply::Failed(failed));
        None
    }

    fn note(&self, event: &Event) {
        match event {
            Event::GuestReady { since_exec_us, since_boot_us } => {
                log::info!("guest ready: {since_exec_us} us from exec, {since_boot_us} us of boot");
                self.life.send_modify(|life| {
                    life.ready_us = Some(*since_exec_us);
                    life.boot_us = Some(*since_boot_us);
                });
            }
            // The story of the end, which follows, says why.
            Event::Panicked => log::warn!("guest kernel panic"),
            Event::DeviceFailed { window, reason } => {
                log::warn!("device in window {} failed: {reason}", window.index());
            }
            Event::Ended(_) => {}
        }
    }
}

/// Waits for a moment, for ever if there is none.
async fn passed(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn story(end: &MachineEnd, exit: Option<&str>, console: &Console) -> String {
    let mut text = end.to_string();
    if let Some(exit) = exit {
        text = format!("{text} ({exit})");
    }
    let lines = match end {
        MachineEnd::Panic => console.panic_lines(),
        _ => console.last_lines(),
    };
    if !lines.is_empty() && !matches!(end, MachineEnd::Stopped | MachineEnd::PowerOff) {
        text = format!("{text}; last console lines: {lines}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock is tokio's own, which jumps when nothing else is to be done.
    #[tokio::test(start_paused = true)]
    #[expect(clippy::zombie_processes, reason = "the driver waits for it")]
    async fn vmm_that_does_not_stop_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let (console, _output) = Console::start(&dir.path().join("console.log")).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let mut sleep = std::process::Command::new("/bin/sleep");
        sleep.arg("600");
        let child = spawn::spawn(sleep, &[]).unwrap();
        let pid = child.id();
        let (asking, orders) = mpsc::channel(1);
        let (life, mut told) = watch::channel(Life::default());
        let control = Control::new(ours).unwrap();
        let process = Arc::new(Watched::new(&child).unwrap());
        let driver = Driver { control, process, orders, life, console };
        let driver = tokio::spawn(driver.run());
        let (reply, _answer) = oneshot::channel();
        let order = Order { request: Request::Stop, fds: Vec::new(), reply };
        asking.send(order).await.ok().unwrap();
        let end = told.wait_for(|life| life.end.is_some()).await.unwrap().end.clone().unwrap();
        assert_eq!(end.end, MachineEnd::Stopped);
        driver.await.unwrap();
        assert_eq!(theirs.recv::<Request>().unwrap().0, Request::Stop);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "reaped");
    }
}
