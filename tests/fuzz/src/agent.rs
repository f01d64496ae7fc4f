//! What a guest's agent answers its shim: the line that accepts a connection, the protocol's
//! answers and other bytes, and the bytes of a stream. The answers have numbers and texts in them.
//!
//! Checked besides panics:
//! - Every call ends, but for those that last as long as the guest wants.
//! - Texts in errors and in the log are short and do nothing to a terminal.
//! - The log gets few records.
//! - Numbers are within their range, and lists have an end.
//! - A stream's bytes arrive as they were sent.
//! - No allocation is larger than the largest message and a little around it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use agent_api::{container, process, storage};
use api::request::Target;
use api::usage::{Usage, Waiting};
use api::{ContainerId, Error};
use arbitrary::{Arbitrary, Unstructured};
use machine::guest::{Guest, GuestMount, StreamIds};
use machine::patience::Patience;
use protobuf::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use ttrpc::proto::{MESSAGE_HEADER_LENGTH, Response, Status};

use crate::hostile::{self, Text, runtime};
use crate::{limits, stage};

/// Most bytes of one allocation: the largest message, and a little around it.
const LARGEST: usize = (4 << 20) + 4096;
/// Most huge pages and disks that are told of.
const MOST: usize = 64;
/// Most calls of an input.
const CALLS: usize = 24;
/// Largest exit status, by wait(2).
const STATUS: u32 = 255;
/// Length of a node's name: `/dev/` and a disk's.
const NODE: usize = 64;

/// The line that accepts a connection.
#[derive(Debug, Arbitrary)]
enum Greeting {
    Usual,
    Other(Vec<u8>),
}

impl Greeting {
    fn line(&self) -> &[u8] {
        match self {
            Self::Usual => b"OK 1073741824\n",
            Self::Other(bytes) => bytes,
        }
    }
}

#[derive(Debug, Arbitrary)]
enum Op {
    Call(Call, Vec<Frame>),
    /// All that waits is sent, and the connection is closed.
    Leave(Call, Vec<Frame>),
    Stream(Greeting, Vec<u8>),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Call {
    Check,
    Start,
    Wait,
    WaitOom(u64),
    Stats,
    Delete,
    Signal,
    Attach,
    Shutdown(u8),
    Exec,
}

impl Call {
    /// Whether it lasts for as long as the guest wants.
    fn waits(self) -> bool {
        matches!(self, Self::Check | Self::Wait | Self::WaitOom(_))
    }
}

/// A message of the agent.
#[derive(Debug, Arbitrary)]
enum Frame {
    Bytes(Vec<u8>),
    Answer(Body),
    Message { stream: Option<u32>, kind: u8, flags: u8, length: Option<u32>, body: Body },
}

#[derive(Debug, Arbitrary)]
enum Body {
    Bytes(Vec<u8>),
    Refused { code: i32, text: Text },
    Payload(Vec<u8>),
    Files(Vec<(Name, Text)>),
    Pages { count: u16 },
    Exit(u32),
    Oom { count: u64, ended: bool },
    Disk { node: Text, numbers: [u32; 2] },
}

/// The name of a file with numbers.
#[derive(Debug, Arbitrary)]
enum Name {
    Known(u8),
    Pages { size: u16, unit: u8, kind: u8 },
    Any(String),
}

impl Name {
    fn text(&self) -> String {
        let known = [
            "cpu.stat",
            "cpu.pressure",
            "memory.stat",
            "memory.events",
            "memory.current",
            "memory.max",
            "memory.pressure",
            "memory.swap.peak",
            "pids.current",
            "pids.max",
            "io.stat",
            "io.pressure",
        ];
        match self {
            Self::Known(number) => known[usize::from(*number) % known.len()].to_owned(),
            Self::Pages { size, unit, kind } => {
                let unit = ["KB", "MB", "GB", "B"][usize::from(*unit % 4)];
                let kind = ["current", "max", "events"][usize::from(*kind % 3)];
                format!("hugetlb.{size}{unit}.{kind}")
            }
            Self::Any(text) => text.clone(),
        }
    }
}

impl Body {
    fn bytes(&self) -> Vec<u8> {
        let payload = match self {
            Self::Bytes(bytes) => return bytes.clone(),
            Self::Refused { code, text } => {
                let code = protobuf::EnumOrUnknown::from_i32(*code);
                let status = Status { code, message: text.words(), ..Status::default() };
                let response = Response { status: Some(status).into(), ..Response::default() };
                return response.write_to_bytes().unwrap();
            }
            Self::Payload(payload) => payload.clone(),
            Self::Files(files) => {
                let files: HashMap<_, _> =
                    files.iter().map(|(name, text)| (name.text(), text.words())).collect();
                let stats = container::StatsResponse { files, ..Default::default() };
                stats.write_to_bytes().unwrap()
            }
            Self::Pages { count } => {
                let page = |n: u16| (format!("hugetlb.{n}MB.current"), "1".to_owned());
                let files = (0..*count % 10_000).map(page).collect();
                let stats = container::StatsResponse { files, ..Default::default() };
                stats.write_to_bytes().unwrap()
            }
            Self::Exit(exit_status) => {
                let exit_status = *exit_status;
                let exit = process::WaitResponse { exit_status, ..Default::default() };
                exit.write_to_bytes().unwrap()
            }
            Self::Oom { count, ended } => {
                let (count, ended) = (*count, *ended);
                let oom = container::WaitOomResponse { count, ended, ..Default::default() };
                oom.write_to_bytes().unwrap()
            }
            Self::Disk { node, numbers: [major, minor] } => {
                let (device, major, minor) = (node.words(), *major, *minor);
                let disk = storage::AttachResponse { device, major, minor, ..Default::default() };
                disk.write_to_bytes().unwrap()
            }
        };
        Response { payload, ..Response::default() }.write_to_bytes().unwrap()
    }
}

impl Frame {
    /// The frame as an answer to the call with the number `asked`.
    fn bytes(&self, asked: u32) -> Vec<u8> {
        let (stream, kind, flags, length, body) = match self {
            Self::Bytes(bytes) => return bytes.clone(),
            Self::Answer(body) => (asked, 2, 0, None, body.bytes()),
            Self::Message { stream, kind, flags, length, body } => {
                (stream.unwrap_or(asked), kind % 5, *flags, *length, body.bytes())
            }
        };
        let length = length.unwrap_or(body.len() as u32);
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(stream.to_be_bytes());
        bytes.extend([kind, flags]);
        bytes.extend(body);
        bytes
    }
}

/// Reads a call and returns its number; none: there will be no more.
async fn asked(agent: &mut UnixStream) -> Option<u32> {
    let mut header = [0; MESSAGE_HEADER_LENGTH];
    agent.read_exact(&mut header).await.ok()?;
    let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    let mut rest = vec![0; word(0) as usize];
    agent.read_exact(&mut rest).await.ok()?;
    Some(word(4))
}

fn check_waiting(waiting: Waiting) {
    for share in [waiting.avg10, waiting.avg60, waiting.avg300] {
        assert!((0.0..=100.0).contains(&share), "a share of {share} %");
    }
}

fn check_usage(usage: &Usage) {
    for pressure in [usage.cpu_pressure, usage.memory_pressure, usage.io_pressure] {
        check_waiting(pressure.some);
        check_waiting(pressure.full);
    }
    assert!(usage.huge_pages.len() <= MOST && usage.disks.len() <= MOST);
    for pages in &usage.huge_pages {
        let name = pages.size.as_bytes();
        assert!(name.len() <= 6 && name.iter().all(u8::is_ascii_alphanumeric), "{pages:?}");
    }
}

async fn call(guest: &Guest, call: Call) -> Result<(), Error> {
    let container = ContainerId::new("c").unwrap();
    let target = Target { container: container.clone(), exec: None };
    match call {
        Call::Check => guest.check().await,
        Call::Start => guest.start(&target).await,
        Call::Wait => {
            let status = guest.wait(&target).await?;
            assert!(status <= STATUS, "exit status {status}");
            Ok(())
        }
        Call::WaitOom(seen) => guest.wait_oom(&container, seen).await.map(drop),
        Call::Stats => guest.stats(&container).await.map(|usage| check_usage(&usage)),
        Call::Delete => guest.delete(&container).await,
        Call::Signal => guest.signal(&target, 15, false).await,
        Call::Attach => {
            let window = vmm_api::Window::try_from(1).unwrap();
            let disk = guest.attach(window, &GuestMount::default()).await?;
            assert!(disk.node.len() <= NODE, "{} bytes of a name", disk.node.len());
            hostile::check(&disk.node);
            Ok(())
        }
        Call::Shutdown(seconds) => guest.shutdown(Duration::from_secs(seconds.into())).await,
        Call::Exec => {
            let ids = StreamIds::default();
            guest.exec(&target, &serde_json::Value::Null, ids).await
        }
    }
}

/// A guest's agent, and the way to it.
struct World {
    listener: UnixListener,
    path: PathBuf,
}

impl World {
    fn new() -> Self {
        let path = stage::dir().join("vsock");
        // The first time there is none.
        let _ = std::fs::remove_file(&path);
        Self { listener: UnixListener::bind(&path).unwrap(), path }
    }

    async fn serve(&self, greeting: &Greeting, ops: &[Op]) {
        let connect = Guest::connect(&self.path, Patience::with(Vec::new()));
        let (guest, mut agent) = tokio::join!(connect, self.accept(greeting));
        let guest = match guest {
            Ok(guest) => guest,
            Err(error) => return hostile::check(&error.to_string()),
        };
        for op in ops.iter().take(CALLS) {
            match op {
                Op::Call(what, frames) => {
                    tokio::join!(limited(&guest, *what), answer(&mut agent, frames));
                }
                Op::Leave(what, frames) => {
                    let leave = async {
                        answer(&mut agent, frames).await;
                        drop(agent);
                    };
                    tokio::join!(limited(&guest, *what), leave);
                    // There is nobody who could answer the next one.
                    return limited(&guest, *what).await;
                }
                Op::Stream(greeting, bytes) => self.stream(&guest, greeting, bytes).await,
            }
        }
    }

    /// Takes a connection, as the VMM does for the guest.
    async fn accept(&self, greeting: &Greeting) -> UnixStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut line = [0; b"CONNECT 1024\n".len()];
        stream.read_exact(&mut line).await.unwrap();
        // Who has seen enough of it closes.
        let _ = stream.write_all(greeting.line()).await;
        stream
    }

    async fn stream(&self, guest: &Guest, greeting: &Greeting, bytes: &[u8]) {
        let (stream, mut agent) = tokio::join!(guest.stream(7), self.accept(greeting));
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return hostile::check(&error.to_string()),
        };
        assert_eq!(agent.read_u64_le().await.unwrap(), 7);
        agent.write_all(bytes).await.unwrap();
        drop(agent);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        let mut parts = greeting.line().splitn(2, |byte| *byte == b'\n');
        let early = parts.nth(1).unwrap_or_default();
        assert!(read == [early, bytes].concat(), "not what was sent");
    }
}

/// Answers the next call.
async fn answer(agent: &mut UnixStream, frames: &[Frame]) {
    let Some(number) = asked(agent).await else { return };
    for frame in frames {
        // Who has seen enough of it closes.
        let _ = agent.write_all(&frame.bytes(number)).await;
    }
}

/// Makes a call. One that waits for as long as it takes is given up; another one must end.
async fn limited(guest: &Guest, what: Call) {
    let called = tokio::time::timeout(Duration::from_secs(7200), call(guest, what)).await;
    match called {
        Ok(Err(error)) => hostile::check(&error.to_string()),
        Ok(Ok(())) => {}
        Err(_) => assert!(what.waits(), "{what:?} does not end"),
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    type Input = (Greeting, Vec<Op>);
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let (greeting, ops) = input;
    stage::dir();
    hostile::records();
    limits::within(LARGEST, || {
        runtime().block_on(async {
            World::new().serve(&greeting, &ops).await;
            // The tasks of the connection find that it is over.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
        });
    });
    let records = hostile::records();
    assert!(records <= 2 * CALLS, "{records} records in the log");
}
