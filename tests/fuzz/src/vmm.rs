//! What a VMM tells its shim: messages on the control socket, the guest's console, and what the VMM
//! itself prints.
//!
//! Checked besides panics:
//! - Texts in errors, in the story of the end and in the log are short and do nothing to a
//!   terminal.
//! - The log gets few records.
//! - The first end that the VMM tells counts.
//! - Nobody who asks waits for ever.
//! - No allocation is larger than a few messages.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::Error;
use arbitrary::{Arbitrary, Unstructured};
use host::spawn::{self, Watched};
use machine::Machine;
use machine::console::{OutputEnds, Outputs};
use tokio::task::JoinSet;
use vmm_api::{
    Channel, DeviceConfig, ErrorKind, ErrorReply, Event, FromVmm, MachineConfig, MachineEnd,
    MachineState, MachineStatus, RawMachineConfig, Reply, Window,
};

use crate::hostile::{self, Text, runtime};
use crate::{limits, stage};

/// Most bytes of one allocation: the largest message, its text, and what is made of it.
const LARGEST: usize = 1 << 20;
/// Most that is asked.
const ASKED: usize = 12;
/// Records of the log that one machine is worth, besides one for each window: ready, panic, end,
/// what was wrong with its socket, and what was asked.
const RECORDS: usize = 8 + ASKED + vmm_api::WINDOWS as usize;

#[derive(Debug, Arbitrary)]
enum Op {
    Say(Message, u8),
    Raw(Vec<u8>),
    Close,
    Print(bool, Vec<u8>),
    PrintText(bool, Text),
    Ask(Ask),
    Wait(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Ask {
    Attach,
    Detach(u8),
    Ready(u8),
    Stop,
}

#[derive(Debug, Arbitrary)]
enum Message {
    Done,
    Attached(u8),
    Status { state: u8, window: u8, count: u16 },
    Failed { kind: u8, text: Text },
    Ready(u64, u64),
    Panicked,
    Device { window: u8, text: Text },
    Ended(u8, Text),
}

fn window(index: u8) -> Window {
    Window::try_from(index % vmm_api::WINDOWS).unwrap()
}

impl Message {
    fn build(&self) -> FromVmm {
        let states = [MachineState::New, MachineState::Running, MachineState::Ended];
        let kinds = [ErrorKind::Invalid, ErrorKind::State, ErrorKind::NoWindow, ErrorKind::Host];
        match self {
            Self::Done => FromVmm::Reply(Reply::Done),
            Self::Attached(index) => FromVmm::Reply(Reply::Attached(window(*index))),
            Self::Status { state, window: index, count } => {
                let state = states[usize::from(*state) % states.len()];
                let windows = vec![window(*index); (*count).into()];
                FromVmm::Reply(Reply::Status(MachineStatus { state, windows }))
            }
            Self::Failed { kind, text } => {
                let kind = kinds[usize::from(*kind) % kinds.len()];
                FromVmm::Reply(Reply::Failed(ErrorReply { kind, message: text.words() }))
            }
            Self::Ready(since_exec_us, since_boot_us) => FromVmm::Event(Event::GuestReady {
                since_exec_us: *since_exec_us,
                since_boot_us: *since_boot_us,
            }),
            Self::Panicked => FromVmm::Event(Event::Panicked),
            Self::Device { window: index, text } => {
                let (window, reason) = (window(*index), text.words());
                FromVmm::Event(Event::DeviceFailed { window, reason })
            }
            Self::Ended(how, text) => FromVmm::Event(Event::Ended(match how % 8 {
                0 => MachineEnd::PowerOff,
                1 => MachineEnd::Reset,
                2 => MachineEnd::Panic,
                3 => MachineEnd::TripleFault,
                4 => MachineEnd::KvmInternalError { suberror: (*how).into() },
                5 => MachineEnd::Stopped,
                6 => MachineEnd::Killed,
                _ => MachineEnd::Failed { reason: text.words() },
            })),
        }
    }
}

/// In place of the VMM's process: one that has ended, for all inputs.
fn process() -> Arc<Watched> {
    static PROCESS: OnceLock<Arc<Watched>> = OnceLock::new();
    let ended = async {
        let child = spawn::spawn(Command::new("/bin/true"), &[]).unwrap();
        let process = Watched::new(child).unwrap();
        process.wait().await.unwrap();
        Arc::new(process)
    };
    PROCESS.get_or_init(|| runtime().block_on(ended)).clone()
}

struct World {
    machine: Arc<Machine>,
    theirs: Option<Channel>,
    outputs: [File; 2],
    shown: Outputs,
    asked: JoinSet<Result<(), Error>>,
    /// What the machine's end must be; none as long as it has not ended.
    end: Option<MachineEnd>,
    /// Time passed, or the machine was told to stop: somebody else may have ended it.
    unsure: bool,
}

impl World {
    fn new() -> Self {
        let (console, vmm) = (stage::dir().join("console.log"), stage::dir().join("vmm.log"));
        let (outputs, OutputEnds { console, vmm }) = Outputs::start(&console, &vmm).unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let raw = RawMachineConfig {
            vcpus: 1,
            memory_mib: 128,
            extra_cmdline: String::new(),
            early_serial: false,
        };
        let shape = MachineConfig::try_from(raw).unwrap();
        let machine =
            Machine::of(process(), Machine::channel(ours).unwrap(), shape, outputs.clone());
        Self {
            machine: Arc::new(machine),
            theirs: Some(theirs),
            outputs: [File::from(console), File::from(vmm)],
            shown: outputs,
            asked: JoinSet::new(),
            end: None,
            unsure: false,
        }
    }

    fn say(&mut self, message: &FromVmm, descriptors: u8) {
        let Some(theirs) = &self.theirs else { return };
        let fds = vec![self.outputs[0].as_fd(); usize::from(descriptors % 4)];
        // More than fits is not sent.
        if theirs.send(message, &fds).is_ok()
            && let FromVmm::Event(Event::Ended(end)) = message
        {
            self.end.get_or_insert_with(|| end.clone());
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        let Some(theirs) = &self.theirs else { return };
        let flags = rustix::net::SendFlags::NOSIGNAL;
        if rustix::net::send(theirs, bytes, flags).is_err() {
            return;
        }
        let end = match serde_json::from_slice::<FromVmm>(bytes) {
            Ok(FromVmm::Event(Event::Ended(end))) => end,
            Ok(_) => return,
            // No message: whoever sends that is not listened to any more.
            Err(_) => MachineEnd::Killed,
        };
        self.end.get_or_insert(end);
    }

    fn ask(&mut self, ask: Ask) {
        if self.asked.len() >= ASKED {
            return;
        }
        self.unsure |= matches!(ask, Ask::Stop);
        let machine = Arc::clone(&self.machine);
        self.asked.spawn(async move {
            match ask {
                Ask::Attach => machine.attach(DeviceConfig::Rng, Vec::new()).await.map(drop),
                Ask::Detach(index) => machine.detach(window(index)).await,
                Ask::Ready(seconds) => {
                    machine.ready(Duration::from_secs(seconds.into())).await.map(drop)
                }
                Ask::Stop => machine.stop().await,
            }
        });
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Say(message, descriptors) => self.say(&message.build(), descriptors),
            Op::Raw(bytes) => self.raw(&bytes),
            Op::Close => {
                self.theirs = None;
                self.end.get_or_insert(MachineEnd::Killed);
            }
            // A full pipe drops output.
            Op::Print(output, bytes) => drop(self.outputs[usize::from(output)].write(&bytes)),
            Op::PrintText(output, text) => {
                drop(self.outputs[usize::from(output)].write(text.words().as_bytes()));
            }
            Op::Ask(ask) => self.ask(ask),
            Op::Wait(seconds) => {
                self.unsure = true;
                tokio::time::advance(Duration::from_secs(seconds.into())).await;
            }
        }
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        self.look();
    }

    fn look(&mut self) {
        for shown in [&self.shown.console, &self.shown.vmm] {
            hostile::check(&shown.last_lines());
            hostile::check(&shown.panic_lines());
        }
        while let Some(answer) = self.asked.try_join_next() {
            if let Err(error) = answer.unwrap() {
                hostile::check(&error.to_string());
            }
        }
    }

    async fn finish(mut self) {
        drop(self.theirs.take());
        drop(self.outputs);
        let end = self.machine.ended().await;
        hostile::check(&end.reason);
        if !self.unsure {
            assert_eq!(end.end, self.end.unwrap_or(MachineEnd::Killed), "another end than told");
        }
        while let Some(answer) = self.asked.join_next().await {
            if let Err(error) = answer.unwrap() {
                hostile::check(&error.to_string());
            }
        }
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(ops) = <Vec<Op>>::arbitrary_take_rest(Unstructured::new(input)) else { return };
    stage::dir();
    process();
    hostile::records();
    limits::within(LARGEST, || {
        runtime().block_on(async {
            let mut world = World::new();
            for op in ops {
                world.apply(op).await;
            }
            world.finish().await;
        });
    });
    let records = hostile::records();
    assert!(records <= RECORDS, "{records} records in the log");
}
