//! Descriptor chains as the devices see them: checked, in two halves, free of framing.
//!
//! A driver may cut a request into descriptors as it likes (§2.7.4). So a device only sees the
//! bytes that it may read and those that it may write. [`Active::drain`](crate::worker::Active) is
//! the usual way to get chains.

use std::sync::atomic::{Ordering, fence};

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap, VolatileSlice,
};

/// Most buffers that a chain may consist of. The attack: an indirect table of 65535 entries,
/// given many times, costs the host as many list entries and system-call vectors each. Linux
/// never uses more than a queue's size, and no queue here is larger than 1024.
pub(crate) const MAX_SEGMENTS: usize = 1024;

/// Flag in the available ring: the driver wants no interrupts (§2.7.6).
const NO_INTERRUPT: u16 = 1;

/// What is wrong with a descriptor chain. The chain is given back unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChainError {
    /// A descriptor's buffer is not in the guest's memory.
    #[error("buffer outside of memory")]
    Memory,
    /// A readable descriptor follows a writable one (§2.7.4.2).
    #[error("readable buffer after a writable one")]
    Order,
    /// More descriptors than [`MAX_SEGMENTS`].
    #[error("too many buffers")]
    TooLong,
    /// The chain is a loop, or points outside of its table.
    #[error("descriptors that don't end")]
    Broken,
    /// Fewer bytes than the request needs.
    #[error("buffers too short for the request")]
    Short,
}

/// A queue that can't be used any more because its rings are corrupt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// The ring's index or address is invalid.
    #[error("ring of queue is invalid")]
    Ring(#[from] virtio_queue::Error),
    /// A ring entry names a descriptor past the table.
    #[error("descriptor {0} is past the table's end")]
    Head(u16),
}

/// One half of a chain: a run of bytes in guest memory, in pieces.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    segments: Vec<(GuestAddress, usize)>,
    len: usize,
}

impl Buffer {
    fn push(&mut self, address: GuestAddress, len: usize) {
        if len > 0 {
            self.segments.push((address, len));
            self.len += len;
        }
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The memory of `len` bytes from `offset` on, in order.
    ///
    /// # Errors
    /// [`ChainError::Short`] if there are fewer bytes.
    pub(crate) fn slices<'a>(
        &self,
        memory: &'a GuestMemoryMmap,
        offset: usize,
        len: usize,
    ) -> Result<Vec<VolatileSlice<'a>>, ChainError> {
        let mut skip = offset;
        let mut left = len;
        let mut slices = Vec::with_capacity(self.segments.len());
        for &(address, size) in &self.segments {
            if left == 0 {
                break;
            }
            if skip >= size {
                skip -= size;
                continue;
            }
            let take = left.min(size - skip);
            let start = GuestAddress(address.0 + skip as u64);
            for slice in memory.get_slices(start, take) {
                slices.push(slice.map_err(|_: GuestMemoryError| ChainError::Memory)?);
            }
            skip = 0;
            left -= take;
        }
        if left == 0 { Ok(slices) } else { Err(ChainError::Short) }
    }

    /// Copies the bytes from `offset` on to `out`.
    ///
    /// # Errors
    /// [`ChainError::Short`] if there are fewer bytes.
    pub(crate) fn read_at(
        &self,
        memory: &GuestMemoryMmap,
        offset: usize,
        out: &mut [u8],
    ) -> Result<(), ChainError> {
        let mut rest = out;
        for slice in self.slices(memory, offset, rest.len())? {
            let (now, later) = rest.split_at_mut(slice.len());
            slice.read_slice(now, 0).map_err(|_| ChainError::Memory)?;
            rest = later;
        }
        Ok(())
    }

    /// Copies `bytes` to the place at `offset`.
    ///
    /// # Errors
    /// [`ChainError::Short`] if there is less room.
    pub(crate) fn write_at(
        &self,
        memory: &GuestMemoryMmap,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), ChainError> {
        let mut rest = bytes;
        for slice in self.slices(memory, offset, rest.len())? {
            let (now, later) = rest.split_at(slice.len());
            slice.write_slice(now, 0).map_err(|_| ChainError::Memory)?;
            rest = later;
        }
        Ok(())
    }
}

/// A request: what the driver put into one descriptor chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// What the device may read.
    pub(crate) readable: Buffer,
    /// What the device may write.
    pub(crate) writable: Buffer,
}

/// A chain as the driver made it, for those that read it themselves.
pub(crate) type Descriptors<'a> = virtio_queue::DescriptorChain<&'a GuestMemoryMmap>;

/// Takes the next chain from a queue, if there is one.
///
/// # Errors
/// [`QueueError`] if the queue itself is corrupt; it can't be used any more.
pub(crate) fn pop<'a>(
    queue: &mut Queue,
    memory: &'a GuestMemoryMmap,
) -> Result<Option<Descriptors<'a>>, QueueError> {
    let size = queue.size();
    match queue.iter(memory)?.next() {
        Some(descriptors) if descriptors.head_index() >= size => {
            Err(QueueError::Head(descriptors.head_index()))
        }
        next => Ok(next),
    }
}

/// Gives back chains, each with the number of bytes written into it, all at once: the buffers
/// of one packet must appear together (§5.1.6.4). Says whether the driver wants an interrupt.
///
/// # Errors
/// [`QueueError`] if the queue is corrupt.
pub(crate) fn push(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    used: &[(u16, u32)],
) -> Result<bool, QueueError> {
    let lost = |error| QueueError::Ring(virtio_queue::Error::GuestMemory(error));
    let (old, size, ring) = (queue.next_used(), queue.size(), queue.used_ring());
    let mut next = old;
    for &(head, written) in used {
        if head >= size {
            return Err(QueueError::Head(head));
        }
        // §2.7.8: the entries follow two fields of 2 bytes.
        let entry = GuestAddress(ring + 4 + 8 * u64::from(next % size));
        let value = u64::from(written) << 32 | u64::from(head);
        memory.write_obj(value.to_le(), entry).map_err(lost)?;
        next = next.wrapping_add(1);
    }
    queue.set_next_used(next);
    memory.store(next.to_le(), GuestAddress(ring + 2), Ordering::Release).map_err(lost)?;
    // What the driver wants must be read after it can see the entries (§2.7.7.2).
    fence(Ordering::SeqCst);
    if queue.event_idx_enabled() {
        let event = load(queue, memory, 4 + 2 * u64::from(size))?;
        Ok(next.wrapping_sub(event).wrapping_sub(1) < next.wrapping_sub(old))
    } else {
        Ok(load(queue, memory, 0)? & NO_INTERRUPT == 0)
    }
}

/// How many chains the driver had under way when the last one was taken from the queue: those that
/// it had not taken back. Only its event index (§2.7.7) tells; 0 without.
///
/// # Errors
/// [`QueueError`] if the queue is corrupt.
pub(crate) fn under_way(queue: &Queue, memory: &GuestMemoryMmap) -> Result<u16, QueueError> {
    if !queue.event_idx_enabled() {
        return Ok(0);
    }
    let event = load(queue, memory, 4 + 2 * u64::from(queue.size()))?;
    let count = queue.next_avail().wrapping_sub(event);
    // Linux writes 0 where it wants no interrupt; and a driver may write anything.
    Ok(if event == 0 || count > queue.size() { 0 } else { count })
}

/// Whether the driver has added a chain that was not taken yet.
///
/// # Errors
/// [`QueueError`] if the queue is corrupt.
pub(crate) fn asked(queue: &Queue, memory: &GuestMemoryMmap) -> Result<bool, QueueError> {
    Ok(queue.avail_idx(memory, Ordering::Acquire)?.0 != queue.next_avail())
}

/// A word of the available ring.
fn load(queue: &Queue, memory: &GuestMemoryMmap, offset: u64) -> Result<u16, QueueError> {
    let word = memory.load(GuestAddress(queue.avail_ring() + offset), Ordering::Relaxed);
    let word = word.map_err(|error| QueueError::Ring(virtio_queue::Error::GuestMemory(error)))?;
    Ok(u16::from_le(word))
}

/// Checks a chain and sorts its buffers.
///
/// # Errors
/// [`ChainError`] that says what is wrong with it.
pub(crate) fn collect(
    descriptors: Descriptors<'_>,
    memory: &GuestMemoryMmap,
) -> Result<Chain, ChainError> {
    let mut chain = Chain::default();
    let mut unfinished = true;
    let mut writable_seen = false;
    for (number, descriptor) in descriptors.enumerate() {
        if number == MAX_SEGMENTS {
            return Err(ChainError::TooLong);
        }
        let len = usize::try_from(descriptor.len()).map_err(|_| ChainError::Memory)?;
        if len > 0 && !memory.check_range(descriptor.addr(), len) {
            return Err(ChainError::Memory);
        }
        if descriptor.is_write_only() {
            writable_seen = true;
            chain.writable.push(descriptor.addr(), len);
        } else if writable_seen {
            return Err(ChainError::Order);
        } else {
            chain.readable.push(descriptor.addr(), len);
        }
        unfinished = descriptor.has_next();
    }
    // The iterator also ends where the table is left or where a loop has used up its length.
    if unfinished { Err(ChainError::Broken) } else { Ok(chain) }
}
