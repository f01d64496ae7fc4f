//! The socket device (§5.10): streams between clients on the host and ports of the guest.
//!
//! A client connects to a Unix stream socket and writes `CONNECT <port>\n`. It reads
//! `OK <host port>\n` once the guest has accepted, and talks to the guest from then on. A refused
//! client is closed without a word. Connections that the guest begins are all refused. By one of
//! them, to the ready port, the guest says that it serves its ports.
//!
//! Clients that come before the guest's driver is ready wait in the listener's backlog.

mod connection;
mod credit;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod handshake;
mod host_stream;
mod mux;
mod packet;

#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use crate::device::{Description, DeviceError};
use crate::mmio::VIRTIO_F_EVENT_IDX;
use crate::queue::{Chain, ChainError};
use crate::worker::{Active, Backend, FIRST_TOKEN, Spawner, ThreadKind, Worker, WorkerError};
use credit::CREDIT;
use mux::{Mux, concerns_one_client};
use packet::{HEADER, Header};

/// The thread: accepts, reads and writes Unix stream sockets.
pub const THREAD: ThreadKind =
    ThreadKind { name: "vio-vsock", stack: 128 << 10, acts_for_users: false };

/// Device type (§5.10.1).
const DEVICE_ID: u32 = 19;

/// Sizes of the receive, transmit and event queues (§5.10.2). Linux keeps the receive queue
/// full of 4 KiB buffers, so its size is guest memory.
const QUEUE_SIZES: [u16; 3] = [64, 128, 8];

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Most packets sent to the guest before other events have their turn.
const BURST: usize = 256;

/// Token of the listener; that of a client is this plus its host port.
const LISTENER: u64 = FIRST_TOKEN;

/// Bits of `epoll_wait(2)` events that mean that a stream is closed in both directions.
const HUNG_UP: u32 = 0x10 | 0x8;

/// What a socket device needs.
#[derive(Debug)]
pub struct VsockConfig {
    /// Context identifier of the guest, 3 or more.
    pub guest_cid: u64,
    /// Port of the host that the guest tries to connect to when it is ready.
    pub ready_port: u32,
    /// Where clients connect; it is made non-blocking.
    pub listener: UnixListener,
}

/// A socket device; `on_ready` is called once, on the device's thread, when the guest says
/// that it is ready.
///
/// # Errors
/// [`DeviceError::Host`] if the listener can't be used or the thread not be made.
pub fn device(
    spawner: &Spawner,
    config: VsockConfig,
    on_ready: impl FnOnce() + Send + 'static,
) -> Result<Worker, DeviceError> {
    let VsockConfig { guest_cid, ready_port, listener } = config;
    listener.set_nonblocking(true).map_err(|source| DeviceError::Host {
        device: THREAD.name,
        action: "make listener non-blocking",
        source,
    })?;
    let description = Description {
        device_id: DEVICE_ID,
        features: VIRTIO_F_EVENT_IDX,
        queue_sizes: QUEUE_SIZES.to_vec(),
        config: guest_cid.to_le_bytes().to_vec(),
        unsavable: None,
    };
    let backend = VsockBackend {
        mux: Mux::new(guest_cid, ready_port),
        listener,
        on_ready: Some(Box::new(on_ready)),
        spare: None,
        transmit_paused: false,
        accept_paused: false,
    };
    Worker::spawn(spawner, THREAD, description, backend)
}

struct VsockBackend {
    mux: Mux,
    listener: UnixListener,
    on_ready: Option<Box<dyn FnOnce() + Send>>,
    /// A receive buffer of the guest that turned out not to be needed yet.
    spare: Option<(u16, Chain)>,
    /// Packets of the guest wait until answers have been sent.
    transmit_paused: bool,
    /// Clients wait until the host has descriptors again.
    accept_paused: bool,
}

impl Backend for VsockBackend {
    fn start(&mut self, active: &mut Active) -> Result<(), WorkerError> {
        // An edge also for the listener: where the host is out of descriptors, a level would
        // spin. Waiting clients are then looked for when something happens to another one.
        active
            .watch(self.listener.as_raw_fd(), EventSet::IN | EventSet::EDGE_TRIGGERED, LISTENER)
            .map_err(WorkerError::host("watch listener"))?;
        if let Some(next_port) = active.note {
            self.mux.go_on_from(next_port);
        }
        self.accept(active)
    }

    fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
        match queue {
            TRANSMIT => self.transmit(active)?,
            RECEIVE => {}
            // Buffers for events stay with the device: there are none.
            _ => return Ok(()),
        }
        self.send(active)
    }

    fn ready(&mut self, active: &mut Active, token: u64, events: u32) -> Result<(), WorkerError> {
        let host_port = u32::try_from(token - LISTENER).unwrap_or(0);
        if host_port != 0 {
            self.mux.stream_event(host_port, events & HUNG_UP != 0);
        }
        if host_port == 0 || self.accept_paused {
            self.accept(active)?;
        }
        self.send(active)
    }

    /// With no connection, all that the guest can see of the device are its queues, and which port
    /// of the host comes next: the guest may remember for a while those that are closed.
    fn park(&mut self, active: &mut Active) -> Result<u32, &'static str> {
        let next_port = self.mux.next_port().ok_or("a connection is open")?;
        if self.spare.take().is_some() {
            active.put_back(RECEIVE);
        }
        Ok(next_port)
    }

    fn stop(&mut self) {
        self.mux.clear();
        self.spare = None;
        self.transmit_paused = false;
    }
}

impl VsockBackend {
    /// Accepts all clients that wait.
    fn accept(&mut self, active: &Active) -> Result<(), WorkerError> {
        self.accept_paused = false;
        loop {
            match self.mux.accept(&self.listener) {
                Ok(None) => {}
                Ok(Some(client)) => {
                    let edges = EventSet::IN
                        | EventSet::OUT
                        | EventSet::READ_HANG_UP
                        | EventSet::EDGE_TRIGGERED;
                    let token = LISTENER + u64::from(client.host_port);
                    active
                        .watch(client.stream.as_raw_fd(), edges, token)
                        .map_err(WorkerError::host("watch client"))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if concerns_one_client(&error) => {}
                Err(error) => {
                    guest_warn!("vsock: accept client: {error}");
                    self.accept_paused = true;
                    return Ok(());
                }
            }
        }
    }

    /// Takes the guest's packets.
    fn transmit(&mut self, active: &mut Active) -> Result<(), WorkerError> {
        active.notifications(TRANSMIT, false)?;
        for _ in 0..QUEUE_SIZES[TRANSMIT] {
            if !self.mux.takes_packets() {
                self.transmit_paused = true;
                return Ok(());
            }
            let Some((head, chain)) = active.pop(TRANSMIT)? else {
                match active.notifications(TRANSMIT, true)? {
                    true => continue,
                    false => return Ok(()),
                }
            };
            let taken = chain.and_then(|chain| self.packet(&active.memory, &chain));
            if let Err(error) = taken {
                guest_warn!("vsock: packet dropped: {error}");
            }
            active.complete(TRANSMIT, head, 0)?;
        }
        active.kick_later(TRANSMIT)
    }

    fn packet(&mut self, memory: &GuestMemoryMmap, chain: &Chain) -> Result<(), ChainError> {
        let mut header = [0; HEADER];
        chain.readable.read_at(memory, 0, &mut header)?;
        let header = Header::parse(header);
        let payload = chain.readable.slices(memory, HEADER, as_usize(header.len))?;
        if self.mux.packet(&header, &payload)
            && let Some(on_ready) = self.on_ready.take()
        {
            on_ready();
        }
        Ok(())
    }

    /// Sends to the guest what there is, as long as it gives buffers.
    fn send(&mut self, active: &mut Active) -> Result<(), WorkerError> {
        for _ in 0..BURST {
            if self.transmit_paused && self.mux.takes_packets() {
                self.transmit_paused = false;
                active.kick_later(TRANSMIT)?;
            }
            if !self.mux.has_outgoing() {
                return Ok(());
            }
            let Some((head, chain)) = self.receive_buffer(active)? else {
                return Ok(());
            };
            match self.fill(&active.memory, &chain) {
                Ok(Some(len)) => active.complete(RECEIVE, head, len)?,
                Ok(None) => self.spare = Some((head, chain)),
                Err(error) => {
                    guest_warn!("vsock: receive buffer unusable: {error}");
                    active.complete(RECEIVE, head, 0)?;
                }
            }
        }
        active.kick_later(RECEIVE)
    }

    /// A receive buffer of the guest that can take a header and some payload.
    fn receive_buffer(&mut self, active: &mut Active) -> Result<Option<(u16, Chain)>, WorkerError> {
        if let Some(spare) = self.spare.take() {
            return Ok(Some(spare));
        }
        // Bounded, or a driver that gives unusable buffers again and again would keep the thread.
        for _ in 0..QUEUE_SIZES[RECEIVE] {
            match active.pop(RECEIVE)? {
                Some((head, Ok(chain))) if chain.writable.len() > HEADER => {
                    return Ok(Some((head, chain)));
                }
                Some((head, _)) => {
                    guest_warn!("vsock: receive buffer unusable");
                    active.complete(RECEIVE, head, 0)?;
                }
                None if active.notifications(RECEIVE, true)? => {}
                None => return Ok(None),
            }
        }
        active.kick_later(RECEIVE)?;
        Ok(None)
    }

    /// Puts the next packet into a receive buffer and says how long it is.
    fn fill(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
    ) -> Result<Option<usize>, ChainError> {
        let room = (chain.writable.len() - HEADER).min(as_usize(CREDIT));
        let room = chain.writable.slices(memory, HEADER, room)?;
        let Some(header) = self.mux.fill(&room) else {
            return Ok(None);
        };
        chain.writable.write_at(memory, 0, &header.bytes())?;
        Ok(Some(HEADER + as_usize(header.len)))
    }
}

/// Lossless on every machine that has KVM.
fn as_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
