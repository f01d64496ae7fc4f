//! A VMM that does what a test says: it speaks vmm-api on the control socket of a machine that is
//! not there. A process of its own, which does nothing, is what the host sees of it.

use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use host::spawn::{self, Watched};
use machine::Machine;
use machine::console::{OutputEnds, Outputs};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use vmm_api::{
    Channel, Event, FromVmm, MachineConfig, MachineEnd, RawMachineConfig, Reply, Request, Window,
    WireError,
};

#[derive(Debug, Default)]
struct State {
    /// What it holds as long as it lives: its process's life and the outputs.
    life: Mutex<Option<(ChildStdin, OutputEnds)>>,
}

/// A VMM.
#[derive(Debug)]
pub(crate) struct FakeVmm {
    control: Arc<AsyncFd<Channel>>,
    state: Arc<State>,
    serving: JoinHandle<()>,
    pid: u32,
}

impl FakeVmm {
    /// A machine with so much memory, and the VMM behind it. Its files are in `dir`.
    pub(crate) fn start(dir: &Path, vcpus: u32, memory_mib: u64) -> (Self, Machine) {
        let raw = RawMachineConfig {
            vcpus,
            memory_mib,
            extra_cmdline: String::new(),
            early_serial: false,
        };
        let shape = MachineConfig::try_from(raw).unwrap();
        let mut command = Command::new("/bin/cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = spawn::spawn(command, &[]).unwrap();
        let (outputs, ends) =
            Outputs::start(&dir.join("console.log"), &dir.join("vmm.log")).unwrap();
        let life = Mutex::new(child.stdin.take().map(|stdin| (stdin, ends)));
        let process = Arc::new(Watched::new(child).unwrap());
        let (ours, theirs) = Channel::pair().unwrap();
        let machine = Machine::of(process, Machine::channel(ours).unwrap(), shape, outputs);
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let both = Interest::READABLE | Interest::WRITABLE;
        let control = Arc::new(spawn::register(theirs, both).unwrap());
        let state = Arc::new(State { life });
        let serving = tokio::spawn(serve(Arc::clone(&control), Arc::clone(&state)));
        let vmm = Self { control, state, serving, pid: machine.pid() };
        (vmm, machine)
    }

    /// Says something by itself.
    pub(crate) fn say(&self, event: Event) {
        self.control.get_ref().send(&FromVmm::Event(event), &[]).unwrap();
    }

    /// The guest's agent serves.
    pub(crate) fn ready(&self) {
        self.say(Event::GuestReady { since_exec_us: 300_000, since_boot_us: 200_000 });
    }

    /// The guest's kernel prints something.
    pub(crate) fn print(&self, text: &str) {
        let life = self.state.life.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, ends) = life.as_ref().unwrap();
        rustix::io::write(&ends.console, text.as_bytes()).unwrap();
    }

    /// The machine ends so, and the process.
    pub(crate) fn end(&self, end: MachineEnd) {
        over(&self.control, &self.state, end);
    }

    /// Does nothing any more, and returns when it is asked to do something.
    pub(crate) async fn hang(&self) {
        self.serving.abort();
        self.control.readable().await.unwrap().retain_ready();
    }

    /// Somebody kills the process.
    pub(crate) fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        self.state.life.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.serving.abort();
        rustix::net::shutdown(self.control.get_ref(), rustix::net::Shutdown::Both).unwrap();
    }
}

fn over(control: &AsyncFd<Channel>, state: &State, end: MachineEnd) {
    // Whoever it is told may have closed the socket.
    let _gone = control.get_ref().send(&FromVmm::Event(Event::Ended(end)), &[]);
    state.life.lock().unwrap_or_else(PoisonError::into_inner).take();
}

async fn serve(control: Arc<AsyncFd<Channel>>, state: Arc<State>) {
    let mut windows = 0;
    loop {
        let mut ready = control.readable().await.unwrap();
        let request = match control.get_ref().recv::<Request>() {
            Err(WireError::Socket(rustix::io::Errno::AGAIN)) => {
                ready.clear_ready();
                continue;
            }
            // The closed socket ends a VMM.
            Err(_) => return over(&control, &state, MachineEnd::Stopped),
            Ok((request, _)) => request,
        };
        let reply = match &request {
            Request::Attach(_) => {
                windows += 1;
                Reply::Attached(Window::try_from(windows).unwrap())
            }
            _ => Reply::Done,
        };
        let stop = request == Request::Stop;
        let _gone = control.get_ref().send(&FromVmm::Reply(reply), &[]);
        if stop {
            return over(&control, &state, MachineEnd::Stopped);
        }
    }
}
