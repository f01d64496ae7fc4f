//! A shim's side of the control socket, as far as the tests need it.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vmm_api::{
    BootConfig, CONTROL_FD, Channel, DeviceConfig, ErrorReply, Event, FdSlot, FromVmm,
    KernelDigest, MachineEnd, RawMachineConfig, Reply, Request, Start, WireError,
};

/// Longest that anything here may take: the lab is up to thirty times slower than a real host.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The path in an environment variable, or where the lab has it.
pub(crate) fn installed(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| default.into(), PathBuf::from);
    assert!(path.exists(), "{} is missing: set {variable} to the right path", path.display());
    path
}

pub(crate) fn vmlinux() -> OwnedFd {
    File::open(installed("CUDDY_VMLINUX", "/opt/cuddy/share/cuddy/vmlinux")).unwrap().into()
}

pub(crate) fn memory(mib: u64) -> OwnedFd {
    let memory = memfd_create("memory", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, mib << 20).unwrap();
    memory
}

/// A file that collects what a guest writes.
pub(crate) struct Output(File);

impl Output {
    pub(crate) fn new() -> Self {
        Self(memfd_create("output", MemfdFlags::CLOEXEC).unwrap().into())
    }

    pub(crate) fn writer(&self) -> OwnedFd {
        self.0.as_fd().try_clone_to_owned().unwrap()
    }

    pub(crate) fn text(&self) -> String {
        // The position is shared with the writer, so a second open file is needed.
        let mut file = File::open(format!("/proc/self/fd/{}", self.0.as_raw_fd())).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the guest has written `wanted`.
    pub(crate) fn wait_for(&self, wanted: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let text = self.text();
            if text.contains(wanted) {
                return text;
            }
            assert!(Instant::now() < deadline, "no {wanted:?} from the guest in:\n{text}");
            // A file can't be waited for.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A boot request in the making, with its descriptors.
pub(crate) struct Boot {
    pub(crate) raw: RawMachineConfig,
    start: Start,
    memory: FdSlot,
    serial: Option<FdSlot>,
    to_be_saved: bool,
    devices: Vec<DeviceConfig>,
    fds: Vec<OwnedFd>,
}

impl Boot {
    pub(crate) fn new(kernel: OwnedFd, mib: u64) -> Self {
        Self::of(Start::Kernel(FdSlot(0)), mib, kernel, memory(mib))
    }

    /// A machine that goes on where a saved one was.
    pub(crate) fn saved(state: OwnedFd, kernel: KernelDigest, mib: u64, memory: OwnedFd) -> Self {
        Self::of(Start::Saved { state: FdSlot(0), kernel, written: None }, mib, state, memory)
    }

    fn of(start: Start, mib: u64, first: OwnedFd, memory: OwnedFd) -> Self {
        assert!(
            std::path::Path::new("/dev/kvm").exists(),
            "/dev/kvm is missing: these tests run on a KVM host or in the lab (make e2e)"
        );
        Self {
            raw: RawMachineConfig {
                vcpus: 1,
                memory_mib: mib,
                extra_cmdline: String::new(),
                early_serial: false,
            },
            start,
            memory: FdSlot(1),
            serial: None,
            to_be_saved: false,
            devices: Vec::new(),
            fds: vec![first, memory],
        }
    }

    pub(crate) fn slot(&mut self, fd: OwnedFd) -> FdSlot {
        self.fds.push(fd);
        FdSlot(u8::try_from(self.fds.len() - 1).unwrap())
    }

    pub(crate) fn vcpus(mut self, count: u32) -> Self {
        self.raw.vcpus = count;
        self
    }

    pub(crate) fn savable(mut self) -> Self {
        self.to_be_saved = true;
        self
    }

    /// Gives another kernel, or another state.
    pub(crate) fn replace_first(&mut self, fd: OwnedFd) {
        self.fds[0] = fd;
    }

    /// The machine's memory, for reading.
    pub(crate) fn memory(&self) -> File {
        let number = self.fds[usize::from(self.memory.0)].as_raw_fd();
        File::open(format!("/proc/self/fd/{number}")).unwrap()
    }

    pub(crate) fn cmdline(mut self, words: &str) -> Self {
        self.raw.extra_cmdline = words.to_owned();
        self
    }

    pub(crate) fn serial(mut self, output: &Output) -> Self {
        self.serial = Some(self.slot(output.writer()));
        self.raw.early_serial = true;
        self
    }

    pub(crate) fn device(mut self, make: impl FnOnce(&mut Self) -> DeviceConfig) -> Self {
        let device = make(&mut self);
        self.devices.push(device);
        self
    }

    fn request(&self) -> Request {
        Request::Boot(BootConfig {
            machine: self.raw.clone().try_into().unwrap(),
            start: self.start.clone(),
            memory: self.memory,
            serial: self.serial,
            devices: self.devices.clone(),
            to_be_saved: self.to_be_saved,
        })
    }
}

/// A VMM process.
pub(crate) struct Vmm {
    pub(crate) child: Child,
    channel: Channel,
    events: Vec<Event>,
    pub(crate) started: Instant,
}

impl Vmm {
    /// Starts the process; there is no machine yet.
    #[allow(
        unsafe_code,
        reason = "there is no safe way to give a child a descriptor of a chosen number"
    )]
    pub(crate) fn start() -> Self {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut command = Command::new(installed("CUDDY_VMM", "/opt/cuddy/bin/cuddy-vmm"));
        // A number that is free in the child, whatever the test harness has open.
        let socket = rustix::io::fcntl_dupfd_cloexec(&theirs, 100).unwrap();
        let number = socket.as_raw_fd();
        // SAFETY: only makes a system call between fork and exec.
        unsafe { command.pre_exec(move || place_control_socket(number)) };
        let started = Instant::now();
        let child = command.spawn().unwrap();
        drop(theirs);
        Self { child, channel: ours, events: Vec::new(), started }
    }

    /// Starts the process and its machine.
    pub(crate) fn boot(boot: &Boot) -> Self {
        let mut vmm = Self::start();
        let reply = vmm.try_boot(boot);
        assert_eq!(reply, Reply::Done);
        vmm
    }

    pub(crate) fn try_boot(&mut self, boot: &Boot) -> Reply {
        self.ask(&boot.request(), &boot.fds)
    }

    pub(crate) fn ask(&mut self, request: &Request, fds: &[OwnedFd]) -> Reply {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.channel.send(request, &fds).unwrap();
        loop {
            match self.receive().expect("the VMM went away instead of answering") {
                FromVmm::Reply(reply) => return reply,
                FromVmm::Event(event) => self.events.push(event),
            }
        }
    }

    pub(crate) fn refused(&mut self, request: &Request, fds: &[OwnedFd]) -> ErrorReply {
        refusal(self.ask(request, fds))
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Event {
        if !self.events.is_empty() {
            return self.events.remove(0);
        }
        match self.receive() {
            Some(FromVmm::Event(event)) => event,
            other => panic!("no event but {other:?}; process: {:?}", self.child.wait()),
        }
    }

    /// Waits for the machine's end and the process's.
    pub(crate) fn end(&mut self) -> (MachineEnd, ExitStatus) {
        loop {
            if let Event::Ended(end) = self.event() {
                return (end, self.child.wait().unwrap());
            }
        }
    }

    /// Closes the control socket and waits for the process.
    pub(crate) fn hang_up(mut self) -> ExitStatus {
        let (other, _) = Channel::pair().unwrap();
        drop(std::mem::replace(&mut self.channel, other));
        self.child.wait().unwrap()
    }

    fn receive(&self) -> Option<FromVmm> {
        let timeout = Timespec { tv_sec: i64::try_from(DEADLINE.as_secs()).unwrap(), tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "nothing from the VMM for {DEADLINE:?}");
        match self.channel.recv() {
            Ok((message, _)) => Some(message),
            Err(WireError::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Makes a copy of descriptor `number` the one that the VMM expects.
#[allow(unsafe_code, reason = "there is no safe way to give a descriptor a chosen number")]
fn place_control_socket(number: i32) -> std::io::Result<()> {
    // SAFETY: takes no memory, and nothing in the child uses the descriptor replaced.
    match unsafe { libc::dup2(number, CONTROL_FD) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn refusal(reply: Reply) -> ErrorReply {
    match reply {
        Reply::Failed(error) => error,
        other => panic!("not refused but {other:?}"),
    }
}
