//! The task that owns a VMM's control socket and process.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::spawn::{self, Watched};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use vmm_api::{
    Channel, ErrorKind, ErrorReply, Event, FromVmm, MachineEnd, Reply, Request, Window, WireError,
};

use super::{End, Life, Order};
use crate::console::Outputs;
use crate::text::guest_text;

/// How long a VMM may take to end its machine once it was asked to. A worker that is stuck in
/// the host's storage can keep it from ever doing so.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How long a VMM that has said its last word, or was killed, may take to exit.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// This process's end of the way to a VMM.
#[derive(Debug)]
pub struct Control(AsyncFd<Channel>);

impl Control {
    pub(super) fn new(channel: Channel) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&channel, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self(spawn::register(channel, interest)?))
    }

    async fn send(&self, order: &Order) -> Result<(), WireError> {
        let fds: Vec<BorrowedFd<'_>> = order.fds.iter().map(AsFd::as_fd).collect();
        loop {
            let mut ready = self.0.writable().await.map_err(os_error)?;
            match self.0.get_ref().send(&order.request, &fds) {
                Err(WireError::Socket(rustix::io::Errno::AGAIN)) => ready.clear_ready(),
                sent => return sent,
            }
        }
    }

    async fn recv(&self) -> Result<FromVmm, WireError> {
        loop {
            let mut ready = self.0.readable().await.map_err(os_error)?;
            match self.0.get_ref().recv::<FromVmm>() {
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
    pub(super) outputs: Outputs,
    /// Whether this process has told the machine to end.
    pub(super) told: Arc<AtomicBool>,
    pub(super) noted: Noted,
}

/// What the VMM has told by itself, which is noted once. The attack: a VMM that its guest has taken
/// over tells the same without end, and so fills the node's log.
#[derive(Debug, Default)]
pub(super) struct Noted {
    ready: bool,
    panicked: bool,
    failed: BTreeSet<Window>,
}

impl Driver {
    /// Serves until the machine is over. Its process is reaped when it ends, which the machine's
    /// end does not wait for without limit: one that hangs in the host's kernel can't be ended.
    pub(super) async fn run(mut self) {
        let said = self.serve().await;
        // The closed socket ends a VMM that still lives.
        drop(self.control);
        let mut exit = tokio::time::timeout(LAST_BREATH, self.process.wait()).await;
        let silent = exit.is_err();
        if silent {
            self.process.kill();
            exit = tokio::time::timeout(LAST_BREATH, self.process.wait()).await;
        }
        let undying = exit.is_err();
        self.outputs.complete().await;
        let by_us = silent || self.told.load(Ordering::Relaxed);
        let ended = match &exit {
            Ok(Ok(exit)) => format!("its process {exit}"),
            Ok(Err(error)) => format!("its process can't be waited for: {error}"),
            Err(_) => format!(
                "its process {} was killed and does not end: it waits in the host's kernel, mostly \
                 for storage that does not answer",
                self.process.pid()
            ),
        };
        let exit = exit.ok().and_then(Result::ok);
        let (end, shown) = match said {
            Some(end) if !undying => (end, None),
            said => (said.unwrap_or(MachineEnd::Killed), Some(ended.as_str())),
        };
        let reason = story(&end, shown, &self.outputs);
        log::info!("machine over: {reason}; {ended}");
        let end = End { end, reason, by_us, exit };
        self.life.send_modify(|life| life.end = Some(end));
        if undying && let Ok(exit) = self.process.wait().await {
            log::info!("the VMM that did not end {exit}");
        }
    }

    async fn serve(&mut self) -> Option<MachineEnd> {
        // Those that are to be sent, and who waits for the answers to those that were.
        let mut asked: VecDeque<Order> = VecDeque::new();
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
                    asked.push_back(order);
                    continue;
                }
                sent = send(&self.control, asked.front()) => {
                    if let Some(order) = asked.pop_front() {
                        open.extend(sent_or_refused(sent, order));
                    }
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

    fn note(&mut self, event: &Event) {
        let Some(words) = self.noted.words(event) else { return };
        log::info!("{words}");
        if let Event::GuestReady { since_exec_us, since_boot_us } = event {
            self.life.send_modify(|life| {
                life.ready_us = Some(*since_exec_us);
                life.boot_us = Some(*since_boot_us);
            });
        }
    }
}

impl Noted {
    /// What to log of an event, if it is news.
    fn words(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::GuestReady { since_exec_us, since_boot_us } => {
                let news = !std::mem::replace(&mut self.ready, true);
                news.then(|| {
                    format!("guest ready: {since_exec_us} us from exec, {since_boot_us} us of boot")
                })
            }
            // The story of the end, which follows, says why.
            Event::Panicked => {
                let news = !std::mem::replace(&mut self.panicked, true);
                news.then(|| "guest kernel panic".to_owned())
            }
            Event::DeviceFailed { window, reason } => {
                let news = self.failed.insert(*window);
                let index = window.index();
                news.then(|| format!("device in window {index} failed: {}", guest_text(reason)))
            }
            Event::Ended(_) => None,
        }
    }
}

/// Sends an order, waits for ever if there is none.
async fn send(control: &Control, order: Option<&Order>) -> Result<(), WireError> {
    match order {
        Some(order) => control.send(order).await,
        None => std::future::pending().await,
    }
}

/// Who waits for the answer to an order; nobody if it could not be sent. What the VMM said last is
/// still to be read then.
fn sent_or_refused(sent: Result<(), WireError>, order: Order) -> Option<oneshot::Sender<Reply>> {
    let Err(error) = sent else { return Some(order.reply) };
    log::warn!("asking the VMM: {error}");
    let message = format!("asking the VMM: {error}");
    let failed = ErrorReply { kind: ErrorKind::Host, message };
    // Whoever asked may have given up.
    let _late = order.reply.send(Reply::Failed(failed));
    None
}

/// Waits for a moment, for ever if there is none.
async fn passed(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn story(end: &MachineEnd, exit: Option<&str>, outputs: &Outputs) -> String {
    // A VMM that its guest has taken over words its end as it likes.
    let mut text = guest_text(&end.to_string());
    if let Some(exit) = exit {
        text = format!("{text} ({exit})");
    }
    let said = outputs.vmm.last_lines();
    if !said.is_empty() {
        text = format!("{text}; the VMM's last lines: {said}");
    }
    if matches!(end, MachineEnd::Stopped | MachineEnd::PowerOff) {
        return text;
    }
    let lines = match end {
        MachineEnd::Panic => outputs.console.panic_lines(),
        _ => outputs.console.last_lines(),
    };
    if !lines.is_empty() {
        text = format!("{text}; last console lines: {lines}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver for a process that does not know of it, and the VMM's end of the socket.
    struct Deaf {
        asking: mpsc::Sender<Order>,
        told: watch::Receiver<Life>,
        theirs: Channel,
        pid: u32,
        driver: tokio::task::JoinHandle<()>,
        _dir: tempfile::TempDir,
    }

    fn deaf(program: &str, argument: &str) -> Deaf {
        let dir = tempfile::tempdir().unwrap();
        let (outputs, _ends) =
            Outputs::start(&dir.path().join("log"), &dir.path().join("vmm")).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let mut command = std::process::Command::new(program);
        command.arg(argument);
        let child = spawn::spawn(command, &[]).unwrap();
        let pid = child.id();
        let (asking, orders) = mpsc::channel(16);
        let (life, told) = watch::channel(Life::default());
        let control = Control::new(ours).unwrap();
        let process = Arc::new(Watched::new(child).unwrap());
        let by_us = Arc::default();
        let noted = Noted::default();
        let driver = Driver { control, process, orders, life, outputs, told: by_us, noted };
        Deaf { asking, told, theirs, pid, driver: tokio::spawn(driver.run()), _dir: dir }
    }

    impl Deaf {
        async fn ask(&self, request: Request) -> oneshot::Receiver<Reply> {
            let (reply, answer) = oneshot::channel();
            let order = Order { request, fds: Vec::new(), reply };
            self.asking.send(order).await.ok().unwrap();
            answer
        }

        async fn end(&mut self) -> End {
            let life = self.told.wait_for(|life| life.end.is_some()).await.unwrap();
            life.end.clone().unwrap()
        }
    }

    #[test]
    fn what_a_vmm_repeats_is_told_once_and_in_one_line() {
        let mut noted = Noted::default();
        let failed = |window, reason: &str| Event::DeviceFailed {
            window: Window::try_from(window).unwrap(),
            reason: reason.to_owned(),
        };
        let first = noted.words(&failed(3, &"a\n\x1b[2J".repeat(1000))).unwrap();
        assert!(first.starts_with("device in window 3 failed: a??[2J"), "{first}");
        assert!(first.lines().count() == 1 && first.len() < 1100, "{}", first.len());
        assert_eq!(noted.words(&failed(3, "again")), None);
        assert!(noted.words(&failed(4, "another")).is_some());
        let ready = Event::GuestReady { since_exec_us: 1, since_boot_us: 1 };
        for event in [Event::Panicked, ready] {
            assert!(noted.words(&event).is_some());
            assert_eq!(noted.words(&event), None);
        }
    }

    #[tokio::test]
    async fn what_a_guest_prints_is_not_taken_for_the_vmms_word() {
        let dir = tempfile::tempdir().unwrap();
        let (outputs, ends) =
            Outputs::start(&dir.path().join("log"), &dir.path().join("vmm")).unwrap();
        rustix::io::write(&ends.console, b"cuddy-vmm: ERROR: forged\n").unwrap();
        rustix::io::write(&ends.vmm, b"cuddy-vmm: WARN: true\n").unwrap();
        drop(ends);
        outputs.complete().await;
        let text = story(&MachineEnd::TripleFault, None, &outputs);
        let told = "; the VMM's last lines: cuddy-vmm: WARN: true; last console lines: cuddy-vmm: \
                    ERROR: forged";
        assert!(text.ends_with(told), "{text}");
        assert!(!story(&MachineEnd::Stopped, None, &outputs).contains("forged"));
    }

    /// The clock is tokio's own, which jumps when nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn vmm_that_does_not_stop_is_killed() {
        let mut vmm = deaf("/bin/sleep", "600");
        let _answer = vmm.ask(Request::Stop).await;
        assert_eq!(vmm.end().await.end, MachineEnd::Stopped);
        vmm.driver.await.unwrap();
        assert_eq!(vmm.theirs.recv::<Request>().unwrap().0, Request::Stop);
        assert!(!std::path::Path::new(&format!("/proc/{}", vmm.pid)).exists(), "reaped");
    }

    #[tokio::test(start_paused = true)]
    async fn vmm_that_reads_nothing_is_killed_in_time_as_well() {
        let mut vmm = deaf("/bin/sleep", "600");
        // More than its socket takes, and what waits to be asked.
        let mut answers = Vec::new();
        let begin = Instant::now();
        loop {
            let asked = tokio::time::timeout(Duration::from_secs(1), vmm.ask(Request::Status));
            match asked.await {
                Ok(answer) if answers.len() < 2000 => answers.push(answer),
                _ => break,
            }
        }
        let ended = tokio::time::timeout(Duration::from_mins(10), async {
            let _answer = vmm.ask(Request::Stop).await;
            vmm.end().await
        });
        assert_eq!(ended.await.unwrap().end, MachineEnd::Stopped);
        assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", begin.elapsed());
    }
}
