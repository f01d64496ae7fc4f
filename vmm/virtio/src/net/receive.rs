//! From a tap to the guest.
//!
//! The size of a packet shows only when it has been read. So buffers for the largest one are taken
//! from the queue before. Packets are read straight into them, and those left over are kept.

use std::collections::VecDeque;

use virtio_queue::QueueT;
use vm_memory::{GuestMemoryMmap, VolatileSlice};

use super::bits::{
    F_GUEST_CSUM, F_MRG_RXBUF, GUEST_LARGE, HEADER, HEADER_FLAGS, HEADER_NUM_BUFFERS,
};
use super::tap::Tap;
use super::{ETHERNET, MAX_FRAME};
use crate::queue::Buffer;
use crate::worker::{Active, WorkerError};

/// Most packets that one queue gets before others have their turn.
const BURST: usize = 128;

/// Most pieces of guest memory that a packet is read into: what `readv(2)` takes at once. The
/// attack: buffers of one byte, of which 64 KiB would be needed.
const MAX_SLICES: usize = 1024;

/// A driver's terms for the packets that it gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Bytes of the largest packet with its header.
    room: usize,
    /// Whether a packet may use several buffers.
    mergeable: bool,
    /// Whether the header's flags mean something to the driver.
    flags: bool,
}

impl Terms {
    /// The terms of a driver with these features for packets of at most `mtu` bytes.
    pub(super) fn new(features: u64, mtu: u16) -> Self {
        let has = |wanted| features & wanted != 0;
        let small = ETHERNET + usize::from(mtu);
        let frame = if has(GUEST_LARGE) { MAX_FRAME } else { small };
        let (mergeable, flags) = (has(F_MRG_RXBUF), has(F_GUEST_CSUM));
        Self { room: HEADER + frame, mergeable, flags }
    }
}

/// One receive queue's buffers that have been taken and not used yet.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    buffers: VecDeque<(u16, Buffer)>,
    used: Vec<(u16, u32)>,
}

/// The memory of a receiver's buffers, as long as it is looked at.
struct Room<'a> {
    memory: &'a GuestMemoryMmap,
    terms: Terms,
    slices: Vec<VolatileSlice<'a>>,
    /// How many of the slices belong to each buffer.
    counts: VecDeque<usize>,
    len: usize,
}

impl Receiver {
    /// Gives packets of `tap` to the queue at `position` until either runs out.
    ///
    /// # Errors
    /// [`WorkerError`] if the queue is corrupt or the host lacks something.
    pub(super) fn receive(
        &mut self,
        active: &mut Active,
        position: usize,
        tap: &mut Tap,
        terms: Terms,
    ) -> Result<(), WorkerError> {
        let memory = active.memory.clone();
        let mut room = Room::new(&memory, terms);
        for (_, buffer) in &self.buffers {
            room.add(buffer);
        }
        for _ in 0..BURST {
            if active.stopping() || !self.refill(active, position, &mut room)? {
                return Ok(());
            }
            match tap.read(room.for_a_packet()) {
                Some(len) if len >= HEADER => {
                    self.take(&mut room, len);
                    active.complete_all(position, &self.used)?;
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
        active.kick_later(position)
    }

    /// Forgets the buffers; the driver is gone.
    pub(super) fn clear(&mut self) {
        self.buffers.clear();
    }

    /// Takes buffers from the queue until the largest packet has room, and says whether it has.
    /// If not, the driver is asked to tell of new ones. Comes back later to a driver that gives
    /// more than it has: the attack are unusable buffers, given again as soon as they come back.
    fn refill(
        &mut self,
        active: &mut Active,
        position: usize,
        room: &mut Room<'_>,
    ) -> Result<bool, WorkerError> {
        let most = active.queues[position].queue.size();
        for _ in 0..most {
            if !room.lacking() {
                return Ok(true);
            }
            let Some((head, chain)) = active.pop(position)? else {
                match active.notifications(position, true)? {
                    true => continue,
                    false => return Ok(false),
                }
            };
            match chain {
                // The header must be in one buffer (§5.1.6.3.1).
                Ok(chain) if chain.writable.len() >= HEADER && room.add(&chain.writable) => {
                    self.buffers.push_back((head, chain.writable));
                }
                Ok(_) | Err(_) => {
                    guest_warn!("net: receive buffer unusable");
                    active.complete(position, head, 0)?;
                }
            }
        }
        if room.lacking() {
            active.kick_later(position)?;
        }
        Ok(!room.lacking())
    }

    /// Finishes the header of a packet of `len` bytes and moves its buffers to `used`.
    fn take(&mut self, room: &mut Room<'_>, len: usize) {
        let Room { memory, terms, .. } = *room;
        self.used.clear();
        let mut left = len;
        let mut slices = 0;
        let mut first = None;
        while left > 0 {
            let Some((head, buffer)) = self.buffers.pop_front() else { break };
            let part = left.min(buffer.len());
            left -= part;
            slices += room.counts.pop_front().unwrap_or(0);
            room.len -= buffer.len();
            self.used.push((head, u32::try_from(part).unwrap_or(u32::MAX)));
            first.get_or_insert(buffer);
            if !terms.mergeable {
                break;
            }
        }
        room.slices.drain(..slices);
        let Some(first) = first else { return };
        let count = u16::try_from(self.used.len()).unwrap_or(u16::MAX).to_le_bytes();
        // The tap leaves the number of buffers alone. Neither can fail: the first buffer has
        // room for a header, and its memory has just been written.
        let counted = first.write_at(memory, HEADER_NUM_BUFFERS, &count);
        // Without the feature the flags must be 0 (§5.1.6.4.1), but Linux tells even then that
        // a checksum has been seen to be right.
        let cleared = if terms.flags { Ok(()) } else { first.write_at(memory, HEADER_FLAGS, &[0]) };
        if counted.and(cleared).is_err() {
            guest_warn!("net: header of a packet not written");
        }
    }
}

impl<'a> Room<'a> {
    fn new(memory: &'a GuestMemoryMmap, terms: Terms) -> Self {
        Self { memory, terms, slices: Vec::new(), counts: VecDeque::new(), len: 0 }
    }

    /// Whether the largest packet may not fit.
    fn lacking(&self) -> bool {
        if self.terms.mergeable { self.len < self.terms.room } else { self.counts.is_empty() }
    }

    /// The memory for the next packet.
    fn for_a_packet(&self) -> &[VolatileSlice<'a>] {
        let first = self.counts.front().copied().unwrap_or(0);
        if self.terms.mergeable { &self.slices } else { &self.slices[..first] }
    }

    /// Adds a buffer's memory, unless it is in too many pieces.
    fn add(&mut self, buffer: &Buffer) -> bool {
        let Ok(slices) = buffer.slices(self.memory, 0, buffer.len()) else { return false };
        if self.slices.len() + slices.len() > MAX_SLICES {
            return false;
        }
        self.counts.push_back(slices.len());
        self.slices.extend(slices);
        self.len += buffer.len();
        true
    }
}
