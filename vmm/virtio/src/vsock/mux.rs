//! All connections of a machine: which there are, and whose turn it is to send.
//!
//! A client of the host is known by a port of its own on the host's side. So one number names a
//! connection in both directions.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};

use vm_memory::VolatileSlice;

use super::connection::{Connection, Outgoing, Violation};
use super::credit::CREDIT;
use super::handshake::{Greeting, read_greeting};
use super::packet::{HOST_CID, Header, Op, TYPE_STREAM};

/// Most clients at once, in all states. The attack: a guest that never finishes connections
/// makes the host keep their buffers and descriptors; more clients are turned away.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// Most answers to stray packets that wait for a receive buffer. The attack: a guest sends
/// packets of connections that don't exist and gives no buffers for the answers. Its transmit
/// queue is not looked at while this many wait.
const MAX_REFUSALS: usize = 128;

/// Ports on the host's side; high, so that they can't be mistaken for ports of services.
const HOST_PORTS: std::ops::Range<u32> = 1 << 30..1 << 31;

/// A packet of the guest that belongs to no connection.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    host_port: u32,
    guest_port: u32,
}

#[derive(Debug)]
enum Client {
    /// Has connected and not yet said to which port.
    Greeting(UnixStream),
    /// Is, or will be, connected to the guest.
    Connection(Connection<UnixStream>),
}

/// A client's stream that must be watched, and under which name.
#[derive(Debug)]
pub(super) struct Accepted<'a> {
    pub(super) host_port: u32,
    pub(super) stream: &'a UnixStream,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Mux {
    guest_cid: u64,
    /// The guest's connection to this port of the host means that it is ready.
    ready_port: u32,
    clients: BTreeMap<u32, Client>,
    next_port: u32,
    /// Whoever sent last; the next in order has the next turn.
    last_served: u32,
    refusals: VecDeque<Refusal>,
}

impl Mux {
    /// No connections, with the guest `guest_cid`.
    pub(super) fn new(guest_cid: u64, ready_port: u32) -> Self {
        Self {
            guest_cid,
            ready_port,
            clients: BTreeMap::new(),
            next_port: HOST_PORTS.start,
            last_served: 0,
            refusals: VecDeque::new(),
        }
    }

    /// Forgets all connections; their clients see them closed.
    pub(super) fn clear(&mut self) {
        self.clients.clear();
        self.refusals.clear();
    }

    /// The port of the next client, if there is no client and no answer that waits.
    pub(super) fn next_port(&self) -> Option<u32> {
        (self.clients.is_empty() && self.refusals.is_empty()).then_some(self.next_port)
    }

    /// Gives the next client the port `next`, if that is one that clients get.
    pub(super) fn go_on_from(&mut self, next: u32) {
        if HOST_PORTS.contains(&next) {
            self.next_port = next;
        }
    }

    /// Accepts one client, if one waits.
    ///
    /// # Errors
    /// `WouldBlock` if none waits, others if the host refuses.
    pub(super) fn accept(&mut self, listener: &UnixListener) -> io::Result<Option<Accepted<'_>>> {
        let (stream, _) = listener.accept()?;
        if self.clients.len() >= MAX_CONNECTIONS {
            guest_warn!("vsock: client turned away, {MAX_CONNECTIONS} connections are open");
            return Ok(None);
        }
        stream.set_nonblocking(true)?;
        let host_port = self.free_port();
        let client = self.clients.entry(host_port).or_insert(Client::Greeting(stream));
        Ok(Some(Accepted { host_port, stream: client.stream() }))
    }

    fn free_port(&mut self) -> u32 {
        loop {
            let port = self.next_port;
            self.next_port = if port + 1 < HOST_PORTS.end { port + 1 } else { HOST_PORTS.start };
            if !self.clients.contains_key(&port) {
                return port;
            }
        }
    }

    /// Something has happened to a client's stream: it may be readable or writable, or, with
    /// `hung_up`, is closed in both directions.
    pub(super) fn stream_event(&mut self, host_port: u32, hung_up: bool) {
        let Some(client) = self.clients.remove(&host_port) else {
            return;
        };
        let Some(mut connection) = self.greeted(host_port, client) else {
            return;
        };
        connection.client_readable();
        connection.client_writable();
        if hung_up {
            connection.client_deaf();
        }
        self.clients.insert(host_port, Client::Connection(connection));
        self.remove_finished(host_port);
    }

    /// The client's connection, unless it still has to say, or failed to say, to which port.
    fn greeted(&mut self, host_port: u32, client: Client) -> Option<Connection<UnixStream>> {
        let stream = match client {
            Client::Connection(connection) => return Some(connection),
            Client::Greeting(stream) => stream,
        };
        match read_greeting(&stream) {
            Ok(Greeting::Port(port)) => return Some(Connection::request(stream, port)),
            Ok(Greeting::Incomplete) => {
                self.clients.insert(host_port, Client::Greeting(stream));
            }
            Err(_) => {}
        }
        None
    }

    fn remove(&mut self, host_port: u32) {
        if let Some(Client::Connection(mut connection)) = self.clients.remove(&host_port) {
            connection.discard_unread();
        }
    }

    fn remove_finished(&mut self, host_port: u32) {
        let client = self.clients.get(&host_port);
        if matches!(client, Some(Client::Connection(connection)) if connection.finished()) {
            self.remove(host_port);
        }
    }

    /// The most that one connection buffers: bytes, and memory kept for them.
    #[cfg(fuzzing)]
    pub(super) fn buffered(&self) -> (usize, usize) {
        let connections = self.clients.values().filter_map(|client| match client {
            Client::Greeting(_) => None,
            Client::Connection(connection) => Some(connection.buffered()),
        });
        connections.fold((0, 0), |(len, kept), (one, its)| (len.max(one), kept.max(its)))
    }

    /// How many clients and how many answers to stray packets there are.
    #[cfg(fuzzing)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.clients.len(), self.refusals.len())
    }

    /// Whether packets of the guest may be given to [`Mux::packet`].
    pub(super) fn takes_packets(&self) -> bool {
        self.refusals.len() < MAX_REFUSALS
    }

    /// A packet of the guest. Returns whether it says that the guest is ready.
    pub(super) fn packet(&mut self, header: &Header, payload: &[VolatileSlice<'_>]) -> bool {
        if header.source_cid != self.guest_cid {
            guest_warn!("vsock: packet from a forged address dropped");
            return false;
        }
        let host_port = header.destination_port;
        let ours = header.destination_cid == HOST_CID && header.kind == TYPE_STREAM;
        let connection = match self.clients.get_mut(&host_port) {
            Some(Client::Connection(connection))
                if ours
                    && connection.known_to_guest()
                    && connection.guest_port() == header.source_port =>
            {
                connection
            }
            _ => return self.stray(header, ours),
        };
        connection.credit().update(header.buffer_size, header.forwarded);
        let result = match header.op {
            Op::Response => connection.accepted(host_port),
            Op::Reset => {
                connection.closed_by_guest(false);
                Ok(())
            }
            Op::Shutdown => connection.shut_down_by_guest(header.flags),
            Op::Data => connection.receive(payload),
            Op::CreditUpdate => Ok(()),
            Op::CreditRequest => {
                connection.credit().ask_update();
                Ok(())
            }
            Op::Request | Op::Unknown(_) => Err(Violation::State),
        };
        if let Err(violation) = result {
            guest_warn!("vsock: connection to port {} reset: {violation}", header.source_port);
            connection.reset();
        }
        self.remove_finished(host_port);
        false
    }

    /// A packet that belongs to no connection is refused (§5.10.6.4.1), unless it is a refusal.
    fn stray(&mut self, header: &Header, ours: bool) -> bool {
        if header.op != Op::Reset {
            let (host_port, guest_port) = (header.destination_port, header.source_port);
            self.refusals.push_back(Refusal { host_port, guest_port });
        }
        ours && header.op == Op::Request && header.destination_port == self.ready_port
    }

    /// Whether [`Mux::fill`] may have something to send.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.refusals.is_empty() || self.next_turn().is_some()
    }

    fn next_turn(&self) -> Option<u32> {
        let after = self.clients.range(self.last_served.saturating_add(1)..);
        let before = self.clients.range(..=self.last_served);
        let sends = |client: &Client| match client {
            Client::Greeting(_) => false,
            Client::Connection(connection) => connection.has_outgoing(),
        };
        after.chain(before).find(|(_, client)| sends(client)).map(|(port, _)| *port)
    }

    /// The next packet for the guest: its header, and its payload in `room`.
    pub(super) fn fill(&mut self, room: &[VolatileSlice<'_>]) -> Option<Header> {
        if let Some(Refusal { host_port, guest_port }) = self.refusals.pop_front() {
            let outgoing = Outgoing { op: Op::Reset, flags: 0, len: 0 };
            return Some(self.header(host_port, guest_port, outgoing, 0));
        }
        while let Some(host_port) = self.next_turn() {
            self.last_served = host_port;
            let Some(Client::Connection(connection)) = self.clients.get_mut(&host_port) else {
                continue;
            };
            let Some(outgoing) = connection.next(room) else {
                continue;
            };
            let (guest_port, forwarded) = (connection.guest_port(), connection.credit().tell());
            self.remove_finished(host_port);
            return Some(self.header(host_port, guest_port, outgoing, forwarded));
        }
        None
    }

    fn header(&self, host_port: u32, guest_port: u32, packet: Outgoing, forwarded: u32) -> Header {
        Header {
            source_cid: HOST_CID,
            destination_cid: self.guest_cid,
            source_port: host_port,
            destination_port: guest_port,
            len: packet.len,
            kind: TYPE_STREAM,
            op: packet.op,
            flags: packet.flags,
            buffer_size: CREDIT,
            forwarded,
        }
    }
}

impl Client {
    fn stream(&self) -> &UnixStream {
        match self {
            Self::Greeting(stream) => stream,
            Self::Connection(connection) => connection.stream(),
        }
    }
}

/// Whether an error of accepting is only about the one client.
pub(super) fn concerns_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted)
}
