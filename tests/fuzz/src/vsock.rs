//! The socket device's connections: clients of the host that come, talk, stall and leave, and a
//! guest's packets of any kind.
//!
//! Checked besides panics:
//! - No connection buffers more than its credit.
//! - The guest is never told that more was taken than it sent.
//! - The guest is never sent more than it has room for.
//! - Both sides get what the other sent, in order.
//! - There are no more clients and answers than allowed.
//! - When there is nothing to send, nothing claims that there is.
//! - A guest that has ended a connection hears no more of it than a reset.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use arbitrary::{Arbitrary, Unstructured};
use virtio::fuzzing::Connections;

use crate::{limits, stage};

const GUEST: u64 = 3;
const HOST: u64 = 2;
const PORT: u32 = 1024;
/// Most answers that wait.
const REFUSALS: usize = 128;
/// Most bytes of one allocation: a connection's buffer that grew by doubling.
const LARGEST: usize = 2 * Connections::CREDIT as usize;

const REQUEST: u16 = 1;
const RESET: u16 = 3;
const SHUTDOWN: u16 = 4;
const DATA: u16 = 5;
/// Flags of a shutdown in both directions.
const BOTH: u8 = 3;

#[derive(Debug, Arbitrary)]
enum Op {
    Connect,
    Greet { number: u8, line: Vec<u8> },
    Write { number: u8, len: u16 },
    Read { number: u8, len: u16 },
    Close { number: u8, how: u8 },
    Event { number: u8, hung_up: bool },
    Packet(Packet),
    Fill(u16),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Packet {
    number: u8,
    op: u8,
    flags: u8,
    len: u16,
    room: Room,
    taken: u16,
    /// Bits choose what is wrong about the addresses.
    wrong: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Room {
    Usual,
    Small(u8),
    Any(u32),
}

/// A client, and what the guest has told of the connection.
struct Client {
    stream: Option<UnixStream>,
    /// Its line is the usual one, so that all else is counted bytes.
    orderly: bool,
    /// Bytes that the client has read, the answer to its line not counted.
    read: u64,
    answer: Vec<u8>,
    written: u64,
    /// The guest knows the connection.
    requested: bool,
    /// The guest has ended the connection.
    forgotten: bool,
    /// Somebody else talked for the guest.
    unsure: bool,
    offered: u64,
    received: u64,
    room: u32,
    taken: u32,
}

struct World {
    connections: Connections,
    listener: UnixListener,
    clients: BTreeMap<u32, Client>,
}

impl World {
    fn new() -> Self {
        let socket = stage::dir().join("vsock");
        // The first time there is none.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        Self { connections: Connections::new(GUEST, 1), listener, clients: BTreeMap::new() }
    }

    fn port(&self, number: u8) -> u32 {
        let count = self.clients.len().max(1);
        self.clients.keys().nth(usize::from(number) % count).copied().unwrap_or(7)
    }

    fn connect(&mut self) {
        let stream = UnixStream::connect(stage::dir().join("vsock")).unwrap();
        stream.set_nonblocking(true).unwrap();
        let Some(port) = self.connections.accept(&self.listener).unwrap() else {
            return assert!(self.connections.counts().0 >= Connections::MAX);
        };
        let client = Client {
            stream: Some(stream),
            orderly: false,
            read: 0,
            answer: Vec::new(),
            written: 0,
            requested: false,
            forgotten: false,
            unsure: false,
            offered: 0,
            received: 0,
            room: 0,
            taken: 0,
        };
        self.clients.insert(port, client);
    }

    fn greet(&mut self, number: u8, line: &[u8]) {
        let port = self.port(number);
        let Some(client) = self.clients.get_mut(&port) else { return };
        let Some(mut stream) = client.stream.as_ref() else { return };
        if line.is_empty() && client.written == 0 && !client.unsure {
            client.orderly = !client.orderly && stream.write(b"CONNECT 1024\n").is_ok();
        } else {
            client.orderly = false;
            let _ = stream.write(line);
        }
        client.unsure |= !client.orderly;
        self.connections.stream_event(port, false);
    }

    fn write(&mut self, number: u8, len: u16) {
        let port = self.port(number);
        let Some(client) = self.clients.get_mut(&port) else { return };
        let Some(mut stream) = client.stream.as_ref() else { return };
        client.unsure |= !client.orderly;
        let bytes: Vec<u8> = (0..u64::from(len)).map(|at| (client.written + at) as u8).collect();
        client.written += stream.write(&bytes).unwrap_or(0) as u64;
        self.connections.stream_event(port, false);
    }

    fn read(&mut self, number: u8, len: u16) {
        let port = self.port(number);
        let Some(client) = self.clients.get_mut(&port) else { return };
        let Some(mut stream) = client.stream.as_ref() else { return };
        let mut bytes = vec![0; len.into()];
        let got = stream.read(&mut bytes).unwrap_or(0);
        for byte in &bytes[..got] {
            if client.answer.last() != Some(&b'\n') {
                client.answer.push(*byte);
                continue;
            }
            let right = client.unsure || *byte == client.read as u8;
            assert!(right, "the client got what the guest did not send");
            client.read += 1;
        }
        assert!(client.unsure || client.read <= client.offered);
        if client.answer.last() == Some(&b'\n') {
            assert_eq!(client.answer, format!("OK {port}\n").as_bytes());
        }
        self.connections.stream_event(port, false);
    }

    fn close(&mut self, number: u8, how: u8) {
        let port = self.port(number);
        let Some(client) = self.clients.get_mut(&port) else { return };
        let Some(stream) = client.stream.take() else { return };
        let (half, hung_up) = match how % 3 {
            0 => (Some(Shutdown::Read), false),
            1 => (Some(Shutdown::Write), false),
            _ => (None, true),
        };
        if let Some(half) = half {
            let _ = stream.shutdown(half);
            client.stream = Some(stream);
        } else {
            drop(stream);
        }
        self.connections.stream_event(port, hung_up);
    }

    fn packet(&mut self, packet: Packet) {
        if !self.connections.takes_packets() {
            return;
        }
        let port = self.port(packet.number);
        let right = packet.wrong & 7 == 0;
        let room = match packet.room {
            Room::Usual => 0x4_0000,
            Room::Small(room) => room.into(),
            Room::Any(room) => room,
        };
        // Packets of at most 64 KiB, as the guest's kernel has them.
        let op = u16::from(packet.op % 9);
        let mut payload = vec![0; if op == DATA { packet.len.into() } else { 0 }];
        let mut taken = packet.taken.into();
        if let Some(client) = self.clients.get_mut(&port) {
            if right && client.requested {
                // Mostly the truth.
                taken = if packet.wrong & 0x80 == 0 { client.received as u32 } else { taken };
                (client.room, client.taken) = (room, taken);
                client.forgotten |= op == RESET || op == SHUTDOWN && packet.flags % 5 == BOTH;
                for byte in &mut payload {
                    *byte = client.offered as u8;
                    client.offered += 1;
                }
            } else {
                client.unsure = true;
            }
        }
        let bit = |bit: u8| packet.wrong & bit != 0;
        let mut header = [0; Connections::HEADER];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &if bit(1) { 77 } else { GUEST }.to_le_bytes());
        put(8, &HOST.to_le_bytes());
        put(16, &if bit(2) { 99 } else { PORT }.to_le_bytes());
        put(20, &port.to_le_bytes());
        put(24, &(payload.len() as u32).to_le_bytes());
        put(28, &if bit(4) { 2_u16 } else { 1 }.to_le_bytes());
        put(30, &op.to_le_bytes());
        put(32, &u32::from(packet.flags % 5).to_le_bytes());
        put(36, &room.to_le_bytes());
        put(40, &taken.to_le_bytes());
        let ready = self.connections.packet(header, &mut payload);
        assert!(!ready || op == REQUEST && port == 1, "ready by another packet");
    }

    fn fill(&mut self, room: u16) {
        let mut bytes = vec![0; usize::from(room).max(1)];
        let Some(header) = self.connections.fill(&mut bytes) else {
            return assert!(!self.connections.has_outgoing(), "something to send that is nothing");
        };
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let (port, len, op) = (word(16), word(24), u16::from_le_bytes([header[30], header[31]]));
        assert!(len as usize <= bytes.len(), "more than there was room");
        assert!(op == DATA || len == 0, "payload without data");
        let Some(client) = self.clients.get_mut(&port) else {
            return assert_eq!(op, RESET, "a stray packet is refused");
        };
        assert!(!client.forgotten || op == RESET, "operation {op} on a connection that has ended");
        if op == REQUEST {
            assert!(!client.requested, "requested twice");
            client.requested = true;
            return;
        }
        if !client.unsure {
            assert!(u64::from(word(40)) <= client.offered, "more taken than sent");
        }
        if op == DATA && !client.unsure {
            let under_way = (client.received as u32).wrapping_sub(client.taken);
            assert!(len <= client.room.saturating_sub(under_way), "more sent than there is room");
        }
        for byte in &bytes[..len as usize] {
            assert!(client.unsure || *byte == client.received as u8, "not what the client sent");
            client.received += 1;
        }
        assert!(client.unsure || client.received <= client.written);
    }

    fn check(&self) {
        let (buffered, kept) = self.connections.buffered();
        assert!(buffered <= Connections::CREDIT as usize, "{buffered} bytes buffered");
        assert!(kept <= LARGEST, "room for {kept} bytes kept");
        let (clients, refusals) = self.connections.counts();
        assert!(clients <= Connections::MAX, "{clients} clients");
        assert!(refusals <= REFUSALS, "{refusals} answers wait");
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(ops) = <Vec<Op>>::arbitrary_take_rest(Unstructured::new(input)) else { return };
    let mut world = World::new();
    limits::within(LARGEST, || {
        for op in ops {
            match op {
                Op::Connect => world.connect(),
                Op::Greet { number, line } => world.greet(number, &line),
                Op::Write { number, len } => world.write(number, len),
                Op::Read { number, len } => world.read(number, len),
                Op::Close { number, how } => world.close(number, how),
                Op::Event { number, hung_up } => {
                    let port = world.port(number);
                    world.connections.stream_event(port, hung_up);
                }
                Op::Packet(packet) => world.packet(packet),
                Op::Fill(room) => world.fill(room),
            }
            world.check();
        }
    });
}
