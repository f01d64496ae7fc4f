//! The socket device, end to end: clients on real Unix sockets, a guest made of packets.

mod saved;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::packet::{HOST_CID, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM};
use super::*;
use crate::fake_driver::{Driver, Piece, spawner};

const CID: u64 = 3;
const READY: u32 = 1;
const PORT: u32 = 1024;
/// Buffer size that the guest tells.
const GUEST_BUFFER: u32 = 100_000;

struct Guest {
    driver: Driver,
    buffers: HashMap<u16, Piece>,
    socket: PathBuf,
    ready: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
    /// Credit fields of the packets it sends.
    forwarded: u32,
}

/// A device with its listener at `socket`, which counts how often its guest is ready.
fn device(socket: &Path, ready: &Arc<AtomicUsize>) -> Worker {
    let listener = UnixListener::bind(socket).unwrap();
    let count = Arc::clone(ready);
    let config = VsockConfig { guest_cid: CID, ready_port: READY, listener };
    let on_ready = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    super::device(&spawner(), config, on_ready).unwrap()
}

impl Guest {
    fn new(buffers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vsock.sock");
        let ready = Arc::new(AtomicUsize::new(0));
        let driver = Driver::ready(device(&socket, &ready));
        let mut guest =
            Self { driver, buffers: HashMap::new(), socket, ready, _folder: folder, forwarded: 0 };
        guest.give(buffers);
        guest
    }

    fn give(&mut self, buffers: usize) {
        for _ in 0..buffers {
            let piece = self.driver.space(4096);
            self.refill(piece);
        }
    }

    fn refill(&mut self, piece: Piece) {
        let head = self.driver.submit(RECEIVE, &[piece]);
        self.buffers.insert(head, piece);
    }

    fn send(&mut self, op: Op, host_port: u32, flags: u32, payload: &[u8]) {
        let header = Header {
            source_cid: CID,
            destination_cid: HOST_CID,
            source_port: PORT,
            destination_port: host_port,
            len: payload.len() as u32,
            kind: TYPE_STREAM,
            op,
            flags,
            buffer_size: GUEST_BUFFER,
            forwarded: self.forwarded,
        };
        self.send_raw(&header, payload);
    }

    fn send_raw(&mut self, header: &Header, payload: &[u8]) {
        let mut pieces = vec![self.driver.out(&header.bytes())];
        // As newer guests do: one descriptor for each page.
        for page in payload.chunks(4096) {
            pieces.push(self.driver.out(page));
        }
        self.driver.submit(TRANSMIT, &pieces);
    }

    fn receive(&mut self) -> (Header, Vec<u8>) {
        let (head, len) = self.driver.used(RECEIVE);
        let piece = self.buffers.remove(&head).unwrap();
        let bytes = self.driver.bytes(Piece { len, ..piece });
        self.refill(piece);
        let header = Header::parse(bytes[..HEADER].try_into().unwrap());
        assert_eq!((header.source_cid, header.destination_cid), (HOST_CID, CID));
        assert_eq!((header.kind, header.buffer_size), (TYPE_STREAM, CREDIT));
        assert_eq!(header.len as usize, bytes.len() - HEADER);
        (header, bytes[HEADER..].to_vec())
    }

    fn expect(&mut self, op: Op) -> Header {
        let (header, _) = self.receive();
        assert_eq!(header.op, op);
        header
    }

    fn client(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// A client that is connected to [`PORT`], and its host port.
    fn connect(&mut self) -> (UnixStream, u32) {
        let mut client = self.client();
        client.write_all(format!("CONNECT {PORT}\n").as_bytes()).unwrap();
        let request = self.expect(Op::Request);
        assert_eq!(request.destination_port, PORT);
        let host_port = request.source_port;
        self.send(Op::Response, host_port, 0, &[]);
        let expected = format!("OK {host_port}\n");
        let mut line = vec![0; expected.len()];
        client.read_exact(&mut line).unwrap();
        assert_eq!(line, expected.as_bytes());
        (client, host_port)
    }
}

fn rest(client: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_connection_lives_and_ends() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    client.write_all(b"ping").unwrap();
    let (header, payload) = guest.receive();
    assert_eq!((header.op, &payload[..]), (Op::Data, &b"ping"[..]));
    guest.send(Op::Data, port, 0, b"pong");
    guest.send(Op::Shutdown, port, SHUTDOWN_BOTH, &[]);
    assert_eq!(rest(&mut client), b"pong");
    assert_eq!(guest.expect(Op::Reset).source_port, port);
    // It is forgotten: more of it is refused.
    guest.send(Op::Data, port, 0, b"late");
    guest.expect(Op::Reset);
}

#[test]
fn bytes_written_with_the_greeting_belong_to_the_stream() {
    let mut guest = Guest::new(8);
    let mut client = guest.client();
    client.write_all(b"CONNECT 1024\nearly").unwrap();
    let port = guest.expect(Op::Request).source_port;
    guest.send(Op::Response, port, 0, &[]);
    let (header, payload) = guest.receive();
    assert_eq!((header.op, &payload[..]), (Op::Data, &b"early"[..]));
}

#[test]
fn a_refused_client_is_closed() {
    let mut guest = Guest::new(8);
    let mut client = guest.client();
    client.write_all(b"CONNECT 9\n").unwrap();
    let request = guest.expect(Op::Request);
    let refusal = Header {
        source_cid: CID,
        destination_cid: HOST_CID,
        source_port: 9,
        destination_port: request.source_port,
        op: Op::Reset,
        ..request
    };
    guest.send_raw(&refusal, &[]);
    assert_eq!(rest(&mut client), b"");
    let mut nonsense = guest.client();
    nonsense.write_all(b"HELLO\n").unwrap();
    let mut byte = [0];
    assert_ne!(nonsense.read(&mut byte).unwrap_or(0), 1);
}

#[test]
fn a_megabyte_goes_to_the_guest_within_its_credit() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|number| (number % 253) as u8).collect();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    let mut got = Vec::new();
    let mut requests = 0;
    loop {
        let (header, payload) = guest.receive();
        match header.op {
            Op::Data => got.extend(payload),
            Op::CreditRequest => {
                requests += 1;
                assert_eq!(got.len() as u32 - guest.forwarded, GUEST_BUFFER, "credit unused");
                guest.forwarded = got.len() as u32;
                guest.send(Op::CreditUpdate, port, 0, &[]);
            }
            Op::Shutdown => {
                assert_eq!(header.flags, SHUTDOWN_SEND);
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(got.len() as u32 - guest.forwarded <= GUEST_BUFFER, "beyond the credit");
    }
    assert_eq!(requests, 15);
    assert_eq!(got, bytes);
    let mut client = writer.join().unwrap();
    // The other direction is still open.
    guest.send(Op::Data, port, 0, b"done");
    guest.send(Op::Shutdown, port, SHUTDOWN_SEND, &[]);
    assert_eq!(rest(&mut client), b"done");
}

#[test]
fn a_megabyte_comes_from_the_guest_within_our_credit() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|number| (number % 241) as u8).collect();
    let reader = std::thread::spawn(move || {
        let got = rest(&mut client);
        client.write_all(b"thanks").unwrap();
        (client, got)
    });
    let mut sent = 0_usize;
    let mut forwarded = 0;
    while sent < bytes.len() {
        let room = CREDIT as usize - (sent - forwarded as usize);
        let part = room.min(bytes.len() - sent).min(16_384);
        if part == 0 {
            let header = guest.expect(Op::CreditUpdate);
            assert!(header.forwarded > forwarded);
            forwarded = header.forwarded;
            continue;
        }
        guest.send(Op::Data, port, 0, &bytes[sent..sent + part]);
        guest.driver.used(TRANSMIT);
        sent += part;
    }
    guest.send(Op::Shutdown, port, SHUTDOWN_SEND, &[]);
    let (_client, got) = reader.join().unwrap();
    assert!(got == bytes);
    loop {
        let (header, payload) = guest.receive();
        if header.op == Op::Data {
            assert_eq!(payload, b"thanks");
            break;
        }
        assert_eq!(header.op, Op::CreditUpdate);
    }
}

#[test]
fn a_client_that_does_not_read_is_bounded_and_loses_nothing() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    // Fill the client's socket until no more credit comes back, then the buffer.
    let mut sent = 0_u32;
    let mut forwarded = 0;
    let page = [7; 4096];
    loop {
        while sent - forwarded < CREDIT {
            guest.send(Op::Data, port, 0, &page);
            sent += 4096;
        }
        guest.send(Op::CreditRequest, port, 0, &[]);
        let told = guest.expect(Op::CreditUpdate).forwarded;
        if told == forwarded {
            break;
        }
        forwarded = told;
    }
    assert_eq!(sent - forwarded, CREDIT);
    guest.send(Op::Shutdown, port, SHUTDOWN_SEND, &[]);
    assert_eq!(rest(&mut client).len(), sent as usize);
}

#[test]
fn data_beyond_the_credit_resets() {
    let mut guest = Guest::new(8);
    let (_client, port) = guest.connect();
    for _ in 0..100 {
        guest.send(Op::Data, port, 0, &[0; 4096]);
        guest.driver.used(TRANSMIT);
    }
    while guest.receive().0.op != Op::Reset {}
}

#[test]
fn a_client_that_closes_is_announced_after_its_data() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    client.write_all(b"last words").unwrap();
    drop(client);
    let mut got = Vec::new();
    let mut flags = 0;
    while flags != SHUTDOWN_BOTH {
        let (header, payload) = guest.receive();
        match header.op {
            Op::Data => got.extend(payload),
            Op::Shutdown => flags |= header.flags,
            other => panic!("{other:?}"),
        }
        assert!(flags & SHUTDOWN_SEND == 0 || got == b"last words");
    }
    guest.send(Op::Data, port, 0, b"too late");
    guest.expect(Op::Reset);
}

#[test]
fn a_guest_that_receives_no_more_stops_the_client() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    guest.send(Op::Shutdown, port, SHUTDOWN_RECEIVE, &[]);
    assert_eq!(guest.expect(Op::Shutdown).flags, SHUTDOWN_SEND);
    assert!(client.write_all(b"x").is_err());
    guest.send(Op::Data, port, 0, b"still talking");
    guest.send(Op::Reset, port, 0, &[]);
    assert_eq!(rest(&mut client), b"still talking");
}

#[test]
fn readiness_is_told_once_and_all_guest_connections_are_refused() {
    let mut guest = Guest::new(8);
    for port in [77, READY, READY] {
        guest.send(Op::Request, port, 0, &[]);
        let refusal = guest.expect(Op::Reset);
        assert_eq!((refusal.source_port, refusal.destination_port), (port, PORT));
    }
    assert_eq!(guest.ready.load(Ordering::SeqCst), 1);
}

#[test]
fn forged_and_broken_packets_do_no_harm() {
    let mut guest = Guest::new(8);
    let (mut client, port) = guest.connect();
    let good = Header {
        source_cid: CID,
        destination_cid: HOST_CID,
        source_port: PORT,
        destination_port: port,
        len: 0,
        kind: TYPE_STREAM,
        op: Op::Data,
        flags: 0,
        buffer_size: GUEST_BUFFER,
        forwarded: 0,
    };
    // Dropped without an answer: forged source, a length beyond the packet.
    guest.send_raw(&Header { source_cid: 9, op: Op::Reset, ..good }, &[]);
    guest.send_raw(&Header { len: u32::MAX, ..good }, b"short");
    // Refused: another socket type, another host, another port of the guest.
    let strays = [
        Header { kind: 2, ..good },
        Header { destination_cid: 5, ..good },
        Header { source_port: 6, ..good },
    ];
    for stray in strays {
        guest.send_raw(&stray, &[]);
        guest.expect(Op::Reset);
    }
    guest.send(Op::Data, port, 0, b"fine");
    let mut bytes = [0; 4];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"fine");
    let half = guest.driver.out(&[0; 20]);
    guest.driver.submit(TRANSMIT, &[half]);
    guest.send(Op::Unknown(99), port, 0, &[]);
    guest.expect(Op::Reset);
    assert_eq!(rest(&mut client), b"");
}

#[test]
fn without_receive_buffers_nothing_is_lost() {
    let mut guest = Guest::new(0);
    // As many refusals as the device keeps, then more: those must wait in the queue.
    for port in 0..128 {
        guest.send(Op::Request, 5000 + port, 0, &[]);
    }
    for _ in 0..128 {
        guest.driver.used(TRANSMIT);
    }
    let mut client = guest.client();
    client.write_all(b"CONNECT 1024\nhello").unwrap();
    for port in 128..228 {
        guest.send(Op::Request, 5000 + port, 0, &[]);
    }
    assert!(guest.driver.poll_used(TRANSMIT).is_none());
    guest.give(1);
    let mut refused = 0;
    let mut requested = false;
    while refused < 228 || !requested {
        match guest.receive().0.op {
            Op::Reset => refused += 1,
            Op::Request => requested = true,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn too_many_clients_are_turned_away() {
    let mut guest = Guest::new(8);
    let (mut first, port) = guest.connect();
    let mut clients = Vec::new();
    for _ in 0..mux::MAX_CONNECTIONS {
        clients.push(guest.client());
    }
    // The last one finds no room; the connections that are there go on.
    assert_eq!(rest(clients.last_mut().unwrap()), b"");
    guest.send(Op::Data, port, 0, b"on");
    let mut bytes = [0; 2];
    first.read_exact(&mut bytes).unwrap();
    clients.clear();
}

#[test]
fn a_reset_closes_all_clients_and_serves_again() {
    let mut guest = Guest::new(8);
    let (mut client, _) = guest.connect();
    guest.driver.negotiate(u64::MAX);
    assert_eq!(rest(&mut client), b"");
    guest.buffers.clear();
    guest.give(4);
    let (mut client, port) = guest.connect();
    guest.send(Op::Data, port, 0, b"again");
    let mut bytes = [0; 5];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"again");
}

#[test]
fn many_connections_take_turns() {
    let mut guest = Guest::new(8);
    let mut clients: Vec<_> = (0..20).map(|_| guest.connect()).collect();
    for (client, _) in &mut clients {
        client.write_all(&[1; 20_000]).unwrap();
    }
    let mut got: HashMap<u32, usize> = HashMap::new();
    while got.values().sum::<usize>() < 20 * 20_000 {
        let (header, payload) = guest.receive();
        assert_eq!(header.op, Op::Data);
        *got.entry(header.source_port).or_default() += payload.len();
    }
    assert!(clients.iter().all(|(_, port)| got[port] == 20_000));
}
