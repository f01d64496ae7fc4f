//! Each kind of device, with any features and queues, behind its registers.
//!
//! Checked besides panics:
//! - Chains come back in their order, with no more bytes than there was room.
//! - All of them come back where a device has no reason to keep any.
//! - No worker runs without end.
//! - No allocation is larger than what a request may bring along.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arbitrary::{Arbitrary, Unstructured};
use virtio::net::{NetConfig, TapCalls};
use virtio::vsock::VsockConfig;
use virtio::{blk, console, fs, net, rng, vsock};

use crate::guest::{Guest, Piece, QueueChoice, spawner};
use crate::limits;
use crate::stage;

/// Most bytes of one allocation: a request of the file system, with a little around it.
const LARGEST: usize = 0x28_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum Kind {
    Rng,
    Console,
    Block { read_only: bool, sectors: u8 },
    Net { taps: u8 },
    Vsock,
    Fs,
}

#[derive(Debug, Arbitrary)]
struct Start {
    features: u64,
    queues: Vec<QueueChoice>,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Chain { queue: u8, pieces: Vec<Piece>, indirect: bool },
    Kick(u8),
    Scribble { address: u32, bytes: Vec<u8> },
    Register { word: u8, value: u32 },
    Restart(Start),
    Host { number: u8, bytes: Vec<u8> },
    HostReads(u8),
    HostLeaves(u8),
    Step,
}

#[derive(Debug, Arbitrary)]
struct Input {
    kind: Kind,
    start: Start,
    ops: Vec<Op>,
}

/// What is on the host's side of a device.
#[derive(Default)]
struct Host {
    files: Vec<File>,
    wires: Vec<UnixDatagram>,
    clients: Vec<UnixStream>,
    socket: Option<PathBuf>,
}

impl Host {
    fn bring(&mut self, number: u8, bytes: &[u8]) {
        let count = self.wires.len();
        if count > 0 {
            // A full wire loses packets, as any network may.
            let _ = self.wires[usize::from(number) % count].send(bytes);
        } else if let Some(socket) = &self.socket {
            if number < 16 && self.clients.len() < 8 {
                let stream = UnixStream::connect(socket).unwrap();
                stream.set_nonblocking(true).unwrap();
                let _ = (&stream).write_all(b"CONNECT 1024\n");
                self.clients.push(stream);
            }
            let count = self.clients.len().max(1);
            if let Some(mut client) = self.clients.get(usize::from(number) % count) {
                let _ = client.write(bytes);
            }
        }
    }

    fn read(&mut self, number: u8) {
        let mut bytes = [0; 4096];
        let number = usize::from(number);
        for file in &mut self.files {
            let _ = file.read(&mut bytes);
        }
        if let Some(wire) = self.wires.get(number) {
            let _ = wire.recv(&mut bytes);
        }
        if let Some(mut client) = self.clients.get(number) {
            let _ = client.read(&mut bytes);
        }
    }

    fn leave(&mut self, number: u8) {
        if usize::from(number) < self.clients.len() {
            self.clients.remove(number.into());
        }
    }
}

const CALLS: TapCalls = TapCalls {
    set_offloads: |_, _| Ok(()),
    set_queue: |_, _| Ok(()),
    set_backend: |_, _, _| Ok(()),
};

fn guest(kind: Kind, host: &mut Host) -> Guest {
    let spawner = spawner();
    match kind {
        Kind::Rng => Guest::new(rng::device(&spawner).unwrap()),
        Kind::Console => {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            rustix::io::ioctl_fionbio(&reader, true).unwrap();
            host.files.push(File::from(reader));
            let dropped = Arc::new(AtomicU64::new(0));
            Guest::new(console::device(&spawner, File::from(writer), dropped).unwrap())
        }
        Kind::Block { read_only, sectors } => {
            let file = stage::anonymous(u64::from(sectors) * 512);
            Guest::new(blk::device(&spawner, file, read_only, "fuzz").unwrap())
        }
        Kind::Net { taps } => {
            let pairs = (0..=taps % 4).map(|_| UnixDatagram::pair().unwrap());
            let (taps, wires): (Vec<_>, Vec<_>) = pairs.unzip();
            wires.iter().for_each(|wire| wire.set_nonblocking(true).unwrap());
            host.wires = wires;
            let taps = taps.into_iter().map(|tap| File::from(OwnedFd::from(tap))).collect();
            let (mac, mtu, vhost) = ([2, 0, 0, 0, 0, 1], 1500, Vec::new());
            let config = NetConfig { mac, mtu, taps, vhost, calls: CALLS };
            Guest::new(net::device(&spawner, config).unwrap())
        }
        Kind::Vsock => {
            let socket = stage::dir().join("vsock");
            let _ = std::fs::remove_file(&socket);
            let listener = UnixListener::bind(&socket).unwrap();
            host.socket = Some(socket);
            let config = VsockConfig { guest_cid: 3, ready_port: 1, listener };
            Guest::new(vsock::device(&spawner, config, || ()).unwrap())
        }
        Kind::Fs => {
            let share = stage::share();
            let config = fs::FsConfig { tag: "fuzz".into(), root: share, max_files: 1000 };
            Guest::new(fs::device(&spawner, &config).unwrap())
        }
    }
}

/// The queues whose chains a device has no reason to keep.
fn given_back(kind: Kind) -> Vec<usize> {
    match kind {
        Kind::Rng | Kind::Block { .. } => vec![0],
        Kind::Fs => vec![0, 1],
        // Transmit; what is to be received waits for something to come. The socket device takes no
        // packets while answers wait for buffers.
        Kind::Console => vec![1],
        Kind::Net { taps } => (0..=usize::from(taps % 4)).map(|pair| 2 * pair + 1).collect(),
        Kind::Vsock => Vec::new(),
    }
}

fn drive(guest: &mut Guest, host: &mut Host, op: Op) {
    match op {
        Op::Chain { queue, pieces, indirect } => {
            guest.offer(queue, &pieces, indirect);
        }
        Op::Kick(queue) => guest.kick(queue.into()),
        Op::Scribble { address, bytes } => guest.scribble(address.into(), &bytes),
        Op::Register { word, value } => guest.write_any(4 * u64::from(word), value),
        Op::Restart(Start { features, queues }) => guest.negotiate(features, &queues),
        Op::Host { number, bytes } => host.bring(number, &bytes),
        Op::HostReads(number) => host.read(number),
        Op::HostLeaves(number) => host.leave(number),
        Op::Step => {
            guest.step();
            guest.take_back();
        }
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let Input { kind, start, ops } = input;
    let mut host = Host::default();
    let mut guest = guest(kind, &mut host);
    limits::within(LARGEST, || {
        guest.negotiate(start.features, &start.queues);
        for op in ops {
            drive(&mut guest, &mut host, op);
        }
        guest.step();
        guest.take_back();
        guest.expect_all_back(given_back(kind));
        // The end of a machine, or of a device.
        drop(guest);
    });
    if kind == Kind::Fs {
        stage::check();
    }
}
