//! One connection between a client on the host and a port of the guest.
//!
//! ```text
//!   Requested ──response──► Open ──guest closes──► Draining ──all delivered──► finished
//!       │                     │
//!       └──── refused ────────┴── host has closed both ways and the guest knows ─► finished
//! ```
//!
//! [`Credit`] bounds both directions. From guest to host at most [`CREDIT`] bytes wait in a buffer
//! here for a client that does not read. From host to guest nothing is buffered. Bytes are read
//! from the client straight into a receive buffer that the guest has given, and only as many as its
//! credit allows. A guest that does not read thus stops the client.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::Shutdown;

use vm_memory::VolatileSlice;

use super::credit::{CREDIT, Credit};
use super::host_stream::{HostStream, into_io};
use super::packet::{Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// Largest allocation kept by a connection whose buffer has run empty.
const KEPT_CAPACITY: usize = 4 << 10;

/// Reads by which a closed connection's unread data is dropped; a socket holds about 50 such
/// pieces by default. Limited because the client may go on writing.
const DISCARDS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Requested,
    Open,
    Draining,
}

/// What the guest is to be told when it has a receive buffer.
#[derive(Debug, Default)]
struct Pending {
    request: bool,
    reset: bool,
    /// Shutdown flags not yet sent.
    shutdown: u32,
}

/// A packet for the guest, without addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) op: Op,
    pub(super) flags: u32,
    /// Bytes of payload, already in the receive buffer.
    pub(super) len: u32,
}

/// The guest broke the protocol; the connection must be reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("more data than there was credit for")]
    Credit,
    #[error("packet not allowed in the connection's state")]
    State,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    guest_port: u32,
    phase: Phase,
    pending: Pending,
    /// Bytes from the guest that the client has not taken.
    buffer: VecDeque<u8>,
    credit: Credit,
    /// Shutdown flags that the guest has sent.
    guest_shutdown: u32,
    /// Shutdown flags that the guest has been sent.
    host_shutdown: u32,
    /// Whether reading from the client may succeed.
    readable: bool,
    /// The client sends no more.
    host_eof: bool,
    /// The client receives no more.
    host_deaf: bool,
}

impl<S: HostStream> Connection<S> {
    /// A connection that asks for `guest_port`.
    pub(super) fn request(stream: S, guest_port: u32) -> Self {
        Self {
            stream,
            guest_port,
            phase: Phase::Requested,
            pending: Pending { request: true, ..Pending::default() },
            buffer: VecDeque::new(),
            credit: Credit::default(),
            guest_shutdown: 0,
            host_shutdown: 0,
            // Events are edges: what came before the connection is not announced again.
            readable: true,
            host_eof: false,
            host_deaf: false,
        }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    pub(super) fn guest_port(&self) -> u32 {
        self.guest_port
    }

    /// Whether packets of the guest still belong to this connection.
    pub(super) fn known_to_guest(&self) -> bool {
        self.phase != Phase::Draining
    }

    /// Whether nothing is left to be done for either side.
    pub(super) fn finished(&self) -> bool {
        let quiet = !self.pending.reset && self.pending.shutdown == 0;
        match self.phase {
            Phase::Draining => quiet && (self.buffer.is_empty() || self.host_deaf),
            _ => quiet && self.host_shutdown == SHUTDOWN_BOTH,
        }
    }

    /// Bytes from the guest that the client has not taken, and those that memory is kept for.
    #[cfg(fuzzing)]
    pub(super) fn buffered(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
    }

    /// The connection's credit, in both directions.
    pub(super) fn credit(&mut self) -> &mut Credit {
        &mut self.credit
    }

    /// The guest has accepted; the client learns the port that it was given.
    ///
    /// # Errors
    /// [`Violation::State`] if it was not asked.
    pub(super) fn accepted(&mut self, host_port: u32) -> Result<(), Violation> {
        if self.phase != Phase::Requested {
            return Err(Violation::State);
        }
        self.phase = Phase::Open;
        // A new socket has room for a line, so an error means that the client is gone.
        let greeting = format!("OK {host_port}\n");
        if self.host_deaf || self.stream.write_all(greeting.as_bytes()).is_err() {
            self.reset();
        }
        Ok(())
    }

    /// The guest has closed or reset the connection: it is forgotten there. What it sent
    /// before is still delivered.
    pub(super) fn closed_by_guest(&mut self, answer: bool) {
        self.phase = Phase::Draining;
        self.pending = Pending { reset: answer, ..Pending::default() };
    }

    /// The guest sends or receives no more.
    ///
    /// # Errors
    /// [`Violation::State`] if the connection is not open.
    pub(super) fn shut_down_by_guest(&mut self, flags: u32) -> Result<(), Violation> {
        if self.phase != Phase::Open {
            return Err(Violation::State);
        }
        self.guest_shutdown |= flags & SHUTDOWN_BOTH;
        if self.guest_shutdown == SHUTDOWN_BOTH {
            self.closed_by_guest(true);
        } else if self.guest_shutdown == SHUTDOWN_RECEIVE {
            // The client's next write fails. An error means that it is gone already.
            let _ = self.stream.shutdown(Shutdown::Read);
            self.client_ended();
        }
        self.end_client_input();
        Ok(())
    }

    /// Data from the guest, for the client.
    ///
    /// # Errors
    /// [`Violation`] if the guest may not send (that much).
    pub(super) fn receive(&mut self, payload: &[VolatileSlice<'_>]) -> Result<(), Violation> {
        if self.phase != Phase::Open || self.guest_shutdown & SHUTDOWN_SEND != 0 {
            return Err(Violation::State);
        }
        let len: usize = payload.iter().map(VolatileSlice::len).sum();
        let room = usize::try_from(CREDIT).unwrap_or(usize::MAX) - self.buffer.len();
        if len > room {
            return Err(Violation::Credit);
        }
        for slice in payload {
            let done = if self.buffer.is_empty() { self.pass_on(slice) } else { 0 };
            let rest = slice.len() - done;
            if self.host_deaf {
                self.credit.count_forwarded(rest);
            } else if rest > 0 {
                self.keep(slice, done);
            }
        }
        Ok(())
    }

    /// Writes to the client as much as it takes at once.
    fn pass_on(&mut self, slice: &VolatileSlice<'_>) -> usize {
        let mut done = 0;
        while done < slice.len() && !self.host_deaf {
            let Ok(rest) = slice.offset(done) else { break };
            match self.stream.write_volatile(&rest).map_err(into_io) {
                Ok(count) => {
                    self.credit.count_forwarded(count);
                    done += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.client_deaf(),
            }
        }
        done
    }

    fn keep(&mut self, slice: &VolatileSlice<'_>, done: usize) {
        let mut bytes = vec![0; slice.len() - done];
        if let Ok(rest) = slice.offset(done) {
            rest.copy_to(&mut bytes[..]);
        }
        self.buffer.extend(bytes);
    }

    /// The client can be read from, as far as is known.
    pub(super) fn client_readable(&mut self) {
        self.readable = true;
    }

    /// The client can be written to: delivers what waits.
    pub(super) fn client_writable(&mut self) {
        while !self.buffer.is_empty() && !self.host_deaf {
            match self.stream.write(self.buffer.as_slices().0) {
                Ok(count) => {
                    self.buffer.drain(..count);
                    self.credit.count_forwarded(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.client_deaf(),
            }
        }
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_CAPACITY {
            self.buffer = VecDeque::new();
        }
        self.end_client_input();
    }

    /// The client has closed, or closed its receiving side: what the guest sends is dropped.
    /// What the client sent before is still read.
    pub(super) fn client_deaf(&mut self) {
        if self.host_deaf {
            return;
        }
        self.host_deaf = true;
        self.credit.count_forwarded(self.buffer.len());
        self.buffer = VecDeque::new();
        self.readable = true;
        // Until it accepts, the guest has no connection that could be shut down in part.
        if self.phase == Phase::Open && self.guest_shutdown & SHUTDOWN_SEND == 0 {
            self.pending.shutdown |= SHUTDOWN_RECEIVE;
        } else if self.phase == Phase::Open {
            self.host_shutdown |= SHUTDOWN_RECEIVE;
        }
    }

    /// Once the guest has said that it sends no more, and all is delivered, the client must
    /// see the end too.
    fn end_client_input(&mut self) {
        if self.guest_shutdown & SHUTDOWN_SEND != 0 && self.buffer.is_empty() {
            // An error means that the client is gone already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// The connection must be ended because the guest broke the protocol.
    pub(super) fn reset(&mut self) {
        self.buffer = VecDeque::new();
        self.phase = Phase::Draining;
        self.pending = Pending { reset: true, ..Pending::default() };
    }

    /// Whether there may be something to send to the guest.
    pub(super) fn has_outgoing(&self) -> bool {
        let pending = &self.pending;
        let control = pending.request || pending.reset || pending.shutdown != 0;
        control || self.update_due() || self.may_read() && self.credit.concerns_reader()
    }

    /// Whether the guest must be told of its credit. One that has forgotten the connection answers
    /// every packet of it with a reset.
    fn update_due(&self) -> bool {
        self.phase == Phase::Open && self.credit.update_due()
    }

    fn may_read(&self) -> bool {
        self.phase == Phase::Open && self.readable && !self.host_eof
    }

    /// The next packet for the guest; data goes to `room`, its receive buffer's payload part.
    pub(super) fn next(&mut self, room: &[VolatileSlice<'_>]) -> Option<Outgoing> {
        let plain = |op| Some(Outgoing { op, flags: 0, len: 0 });
        if std::mem::take(&mut self.pending.request) {
            return plain(Op::Request);
        }
        if std::mem::take(&mut self.pending.reset) {
            return plain(Op::Reset);
        }
        if self.may_read() && self.credit.available() > 0 {
            let len = self.read_client(room);
            if len > 0 {
                self.credit.count_sent(len);
                return Some(Outgoing { op: Op::Data, flags: 0, len });
            }
        }
        let flags = std::mem::take(&mut self.pending.shutdown);
        if flags != 0 {
            self.host_shutdown |= flags;
            return Some(Outgoing { op: Op::Shutdown, flags: self.host_shutdown, len: 0 });
        }
        if self.update_due() {
            return plain(Op::CreditUpdate);
        }
        if self.may_read() && self.credit.take_request() {
            return plain(Op::CreditRequest);
        }
        None
    }

    /// Reads from the client until the room, the credit or the client's data are used up.
    fn read_client(&mut self, room: &[VolatileSlice<'_>]) -> u32 {
        let mut left = usize::try_from(self.credit.available()).unwrap_or(usize::MAX);
        let mut done = 0;
        for slice in room {
            let count = self.read_slice(slice, left);
            left -= count;
            done += count;
        }
        // Not more than the credit, which is a u32.
        u32::try_from(done).unwrap_or(u32::MAX)
    }

    fn read_slice(&mut self, slice: &VolatileSlice<'_>, limit: usize) -> usize {
        let limit = limit.min(slice.len());
        let mut done = 0;
        while done < limit && self.may_read() {
            match slice.subslice(done, limit - done) {
                Ok(mut rest) => done += self.read_once(&mut rest),
                // Cannot be: the range lies within the slice.
                Err(_) => break,
            }
        }
        done
    }

    fn read_once(&mut self, part: &mut VolatileSlice<'_>) -> usize {
        match self.stream.read_volatile(part).map_err(into_io) {
            Ok(0) => self.client_ended(),
            Ok(count) => return count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(_) => self.client_ended(),
        }
        0
    }

    /// Reads and drops what the client has sent in vain: a Unix socket that is closed with
    /// unread data shows its peer an error instead of the end of the stream.
    pub(super) fn discard_unread(&mut self) {
        let mut bytes = [0; 4096];
        for _ in 0..DISCARDS {
            match self.stream.read_volatile(&mut VolatileSlice::from(&mut bytes[..])) {
                Ok(count) if count > 0 => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn client_ended(&mut self) {
        self.host_eof = true;
        self.pending.shutdown |= SHUTDOWN_SEND;
    }
}

#[cfg(test)]
mod tests;
