//! The network device (§5.1): packets between the guest and a tap of the host.
//!
//! Each pair of queues has a queue of the tap to itself. Packets go straight between the guest's
//! memory and the tap, one system call each. In their header both sides say what of segmentation
//! and checksums is still to be done. The tap's kernel checks what the guest writes there. The
//! driver's choice of offloads becomes the tap's. With vhost the host's kernel serves the data
//! queues instead, in the same way.
//!
//! ```text
//!   queue 0, 2, 4…  receive   ◄── readv  ── tap queue 0, 1, 2…
//!   queue 1, 3, 5…  transmit  ── writev ──► the same
//!   the last queue  control: number of pairs in use, offloads
//! ```

mod bits;
mod budget;
mod control;
mod receive;
mod tap;
mod vhost;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use crate::device::{Description, DeviceError};
use crate::mmio::VIRTIO_F_EVENT_IDX;
use crate::queue::Chain;
use crate::worker::{Active, Backend, FIRST_TOKEN, Spawner, ThreadKind, Worker, WorkerError};
use bits::{F_CTRL_GUEST_OFFLOADS, F_CTRL_VQ, F_MQ, GUEST_OFFLOADS, HEADER, tap_offloads};
use budget::Budget;
use control::Command;
use receive::{Receiver, Terms};
use tap::Tap;
pub use tap::TapCalls;
use vhost::Vhost;

/// The thread: reads and writes the queues of a tap.
pub const THREAD: ThreadKind =
    ThreadKind { name: "vio-net", stack: 128 << 10, acts_for_users: false };

/// Size of the data queues: as many packets as a tap holds back are in flight at most.
const QUEUE_SIZE: u16 = 256;

/// Size of the control queue. Linux has one command outstanding.
const CONTROL_QUEUE_SIZE: u16 = 16;

/// Most bytes around the payload of an Ethernet frame: two VLAN tags.
const ETHERNET: usize = 14 + 2 * 4;

/// Bytes of the largest frame, an IP packet that is still to be segmented. The attack: a packet
/// of 4 GiB for which the host's kernel looks for memory.
const MAX_FRAME: usize = ETHERNET + 65535;

/// What a network device needs.
#[derive(Debug)]
pub struct NetConfig {
    /// Hardware address.
    pub mac: [u8; 6],
    /// Largest packet without its Ethernet header, in bytes; 68 or more.
    pub mtu: u16,
    /// The tap's queues, at least one, with headers of 12 bytes before packets.
    pub taps: Vec<File>,
    /// Descriptors of `/dev/vhost-net`, none or one for each of the tap's queues.
    pub vhost: Vec<File>,
    /// How to make requests to them.
    pub calls: TapCalls,
}

/// A network device with a pair of queues for each of the tap's.
///
/// # Errors
/// [`DeviceError::Host`] if a descriptor is not what it should be or the thread can't be made.
pub fn device(spawner: &Spawner, config: NetConfig) -> Result<Worker, DeviceError> {
    let NetConfig { mac, mtu, taps, vhost, calls } = config;
    let device = THREAD.name;
    let host = |action| move |source| DeviceError::Host { device, action, source };
    let taps = taps.into_iter().map(|file| Tap::new(file, calls)).collect::<io::Result<Vec<_>>>();
    let taps = taps.map_err(host("make tap non-blocking"))?;
    let first = taps.first().ok_or_else(|| host("find a tap")(io::ErrorKind::NotFound.into()))?;
    let mut features = offered(first, taps.len()).map_err(host("set offloads of tap"))?;
    let vhost = vhost.into_iter().map(|file| Vhost::new(file, calls)).collect::<io::Result<_>>();
    let vhost: Vec<_> = vhost.map_err(host("own vhost descriptor"))?;
    for server in &vhost {
        features = server.offered(features).map_err(host("read features of vhost"))?;
    }
    let mut queue_sizes = vec![QUEUE_SIZE; 2 * taps.len()];
    queue_sizes.push(CONTROL_QUEUE_SIZE);
    let pairs = u16::try_from(taps.len()).unwrap_or(u16::MAX);
    let mut space = mac.to_vec();
    for field in [bits::LINK_UP, pairs, mtu] {
        space.extend(field.to_le_bytes());
    }
    let description = Description {
        device_id: bits::DEVICE_ID,
        features,
        queue_sizes,
        config: space,
        unsavable: Some("a network's other side can't be saved"),
    };
    let receivers = taps.iter().map(|_| Receiver::default()).collect();
    let (roles, budget) = (Vec::new(), Budget::new());
    let backend = NetBackend { taps, vhost, receivers, roles, mtu, offloads: 0, budget };
    Worker::spawn(spawner, THREAD, description, backend)
}

/// The features that a device over `pairs` queues of a tap has, which are more with newer
/// kernels. Leaves the tap without offloads.
fn offered(tap: &Tap, pairs: usize) -> io::Result<u64> {
    let host = bits::F_CSUM | bits::F_HOST_TSO4 | bits::F_HOST_TSO6 | bits::F_HOST_USO;
    let device = bits::F_MTU | bits::F_MAC | bits::F_MRG_RXBUF | bits::F_STATUS;
    let control = F_CTRL_VQ | F_CTRL_GUEST_OFFLOADS;
    let queues = bits::F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
    let mut features = host | GUEST_OFFLOADS | device | control | queues;
    if pairs > 1 {
        features |= F_MQ;
    }
    if let Err(error) = tap.set_offloads(tap_offloads(features)) {
        if error.kind() != io::ErrorKind::InvalidInput {
            return Err(error);
        }
        features &= !bits::USO;
    }
    tap.set_offloads(0)?;
    Ok(features)
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Brings packets of a pair's tap to the guest.
    Receive(usize),
    /// Takes the guest's packets to a pair's tap.
    Transmit(usize),
    /// Takes commands.
    Control,
}

/// The roles of a device's queues in their order (§5.1.2), for a driver that uses `pairs` pairs.
fn roles(pairs: usize) -> Vec<Role> {
    let data = (0..pairs).flat_map(|pair| [Role::Receive(pair), Role::Transmit(pair)]);
    data.chain([Role::Control]).collect()
}

struct NetBackend {
    taps: Vec<Tap>,
    /// The host's kernel, if it serves the data queues.
    vhost: Vec<Vhost>,
    receivers: Vec<Receiver>,
    /// What the queue at each position is for, since the driver is ready.
    roles: Vec<Role>,
    mtu: u16,
    /// Offloads of the tap as they are.
    offloads: u32,
    budget: Budget,
}

impl Backend for NetBackend {
    fn needs(&self) -> usize {
        2
    }

    /// The attack: a driver that sets up queues of pairs that it does not know of.
    fn queues(&self, features: u64) -> usize {
        2 * self.pairs(features) + 1
    }

    fn start(&mut self, active: &mut Active) -> Result<(), WorkerError> {
        self.roles = roles(self.pairs(active.features));
        self.set_offloads(active.features & GUEST_OFFLOADS)
            .map_err(WorkerError::host("set offloads of tap"))?;
        self.hand_over(active).map_err(WorkerError::host("set up vhost"))?;
        // A driver that wants more pairs says so (§5.1.6.5.5).
        self.use_pairs(active, 1).map_err(WorkerError::host("choose queues of tap"))
    }

    fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
        match self.roles.get(queue) {
            Some(&Role::Receive(pair)) => self.receive(active, queue, pair),
            Some(&Role::Transmit(pair)) => self.send(active, queue, pair),
            Some(Role::Control) => self.control(active, queue),
            None => Ok(()),
        }
    }

    fn ready(&mut self, active: &mut Active, token: u64, _: u32) -> Result<(), WorkerError> {
        match usize::try_from(token - FIRST_TOKEN) {
            Ok(pair) if self.taps.get(pair).is_some_and(Tap::in_use) => {
                self.receive(active, 2 * pair, pair)
            }
            _ => Ok(()),
        }
    }

    fn stop(&mut self) {
        self.vhost.iter_mut().for_each(Vhost::stop);
        self.receivers.iter_mut().for_each(Receiver::clear);
    }
}

impl NetBackend {
    /// Pairs of queues that a driver with `features` knows of.
    fn pairs(&self, features: u64) -> usize {
        if features & F_MQ != 0 { self.taps.len() } else { 1 }
    }

    fn set_offloads(&mut self, features: u64) -> io::Result<()> {
        let offloads = tap_offloads(features);
        if offloads != self.offloads {
            self.budget.spend()?;
            self.taps[0].set_offloads(offloads)?;
            self.offloads = offloads;
        }
        Ok(())
    }

    /// Gives the queues of all pairs that the driver has set up to the host's kernel.
    fn hand_over(&self, active: &Active) -> io::Result<()> {
        let pairs = self.pairs(active.features);
        for (pair, server) in self.vhost.iter().enumerate().take(pairs) {
            let Some(queues) = active.queues.get(2 * pair..2 * pair + 2) else { break };
            active.hand_over(2 * pair)?;
            let line = active.hand_over(2 * pair + 1)?;
            server.set_up(&active.memory, active.features, queues, line)?;
        }
        Ok(())
    }

    /// Has the host spread packets over the first `pairs` pairs, of which the driver must have
    /// set up the queues.
    fn use_pairs(&mut self, active: &Active, pairs: usize) -> io::Result<()> {
        let known = self.pairs(active.features);
        if pairs == 0 || pairs > known || 2 * pairs > active.queues.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let changed = |(pair, tap): (usize, &Tap)| tap.in_use() != (pair < pairs);
        if self.taps.iter().enumerate().any(changed) {
            self.budget.spend()?;
        }
        for (pair, tap) in self.taps.iter_mut().enumerate() {
            let wanted = pair < pairs;
            tap.set_in_use(wanted)?;
            match self.vhost.get_mut(pair) {
                Some(server) if wanted => {
                    server.run(tap.file())?;
                    // Packets may have been there before the tap was.
                    active.queues[2 * pair + 1].kick.write(1)?;
                }
                Some(server) => server.stop(),
                None if wanted => watch(active, tap, pair)?,
                None => {}
            }
        }
        Ok(())
    }

    fn receive(&mut self, a: &mut Active, queue: usize, pair: usize) -> Result<(), WorkerError> {
        let terms = Terms::new(a.features, self.mtu);
        match (self.receivers.get_mut(pair), self.taps.get_mut(pair)) {
            (Some(receiver), Some(tap)) => receiver.receive(a, queue, tap, terms),
            _ => Ok(()),
        }
    }

    fn send(&mut self, a: &mut Active, queue: usize, pair: usize) -> Result<(), WorkerError> {
        let Some(tap) = self.taps.get_mut(pair) else { return Ok(()) };
        a.drain(queue, |memory, chain| {
            send_packet(tap, memory, chain);
            0
        })
    }

    fn control(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
        active.notifications(queue, false)?;
        for _ in 0..CONTROL_QUEUE_SIZE {
            let Some((head, chain)) = active.pop(queue)? else {
                match active.notifications(queue, true)? {
                    true => continue,
                    false => return Ok(()),
                }
            };
            let written = match chain {
                Ok(chain) => self.command(active, &chain),
                Err(error) => {
                    guest_warn!("net: command dropped: {error}");
                    0
                }
            };
            active.complete(queue, head, written)?;
        }
        active.kick_later(queue)
    }

    /// Carries out a command and says how many bytes the answer has.
    fn command(&mut self, active: &Active, chain: &Chain) -> usize {
        let done = match control::read(&active.memory, chain, active.features) {
            Some(Command::Pairs(pairs)) => self.use_pairs(active, pairs.into()),
            Some(Command::Offloads(offloads)) => self.set_offloads(offloads),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        if let Err(error) = &done {
            guest_warn!("net: command refused: {error}");
        }
        let answer = if done.is_ok() { control::OK } else { control::ERROR };
        usize::from(chain.writable.write_at(&active.memory, 0, &[answer]).is_ok())
    }
}

/// Waits for packets of a queue that is in use; others can't be watched.
fn watch(active: &Active, tap: &Tap, pair: usize) -> io::Result<()> {
    let (events, token) = (EventSet::IN | EventSet::EDGE_TRIGGERED, FIRST_TOKEN + pair as u64);
    match active.watch(tap.fd(), events, token) {
        // It has been in use before, and stays watched.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        watched => watched,
    }
}

/// Sends a packet, if it is one.
fn send_packet(tap: &mut Tap, memory: &GuestMemoryMmap, chain: &Chain) {
    let len = chain.readable.len();
    if !(HEADER..=HEADER + MAX_FRAME).contains(&len) {
        return guest_warn!("net: packet of {len} bytes dropped");
    }
    let Ok(slices) = chain.readable.slices(memory, 0, len) else { return };
    tap.write(&slices);
}
