//! The connections of a machine, as a fuzzer drives them.

use std::io;
use std::os::unix::net::UnixListener;

use vm_memory::VolatileSlice;

use super::credit::CREDIT;
use super::mux::{MAX_CONNECTIONS, Mux};
use super::packet::{HEADER, Header};

/// The connections, without a device.
#[derive(Debug)]
pub struct Connections(Mux);

impl Connections {
    /// Most bytes that a connection buffers for its client.
    pub const CREDIT: u32 = CREDIT;
    /// Most clients at once.
    pub const MAX: usize = MAX_CONNECTIONS;
    /// Bytes of a packet before its payload.
    pub const HEADER: usize = HEADER;

    /// No connections, with the guest `guest_cid` that is ready when it connects to `ready_port`.
    pub fn new(guest_cid: u64, ready_port: u32) -> Self {
        Self(Mux::new(guest_cid, ready_port))
    }

    /// Accepts a client and returns the port that it has on the host's side; none: there are too
    /// many.
    ///
    /// # Errors
    /// If none waits.
    pub fn accept(&mut self, listener: &UnixListener) -> io::Result<Option<u32>> {
        Ok(self.0.accept(listener)?.map(|accepted| accepted.host_port))
    }

    /// Something has happened to a client's stream.
    pub fn stream_event(&mut self, host_port: u32, hung_up: bool) {
        self.0.stream_event(host_port, hung_up);
    }

    /// Whether packets of the guest may be given.
    pub fn takes_packets(&self) -> bool {
        self.0.takes_packets()
    }

    /// Whether there may be something to send.
    pub fn has_outgoing(&self) -> bool {
        self.0.has_outgoing()
    }

    /// A packet of the guest. Returns whether it says that the guest is ready.
    pub fn packet(&mut self, header: [u8; HEADER], payload: &mut [u8]) -> bool {
        self.0.packet(&Header::parse(header), &[VolatileSlice::from(payload)])
    }

    /// The next packet for the guest, if there is one; its payload goes to `room`.
    pub fn fill(&mut self, room: &mut [u8]) -> Option<[u8; HEADER]> {
        let half = room.len() / 2;
        let (first, second) = room.split_at_mut(half);
        let room = [VolatileSlice::from(first), VolatileSlice::from(second)];
        self.0.fill(&room).map(|header| header.bytes())
    }

    /// The most that one connection buffers: bytes, and memory kept for them.
    pub fn buffered(&self) -> (usize, usize) {
        self.0.buffered()
    }

    /// How many clients and how many answers to stray packets there are.
    pub fn counts(&self) -> (usize, usize) {
        self.0.counts()
    }
}
