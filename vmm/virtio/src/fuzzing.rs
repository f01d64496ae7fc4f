//! What fuzzers reach of this crate besides what is public. Only there when fuzzing.

use vm_memory::GuestMemoryMmap;

use crate::queue::{self, Buffer, Chain};

pub use crate::vsock::fuzzing::Connections;

/// Lets the workers of all devices do what there is to do. They have no threads when fuzzing.
pub fn step() {
    crate::worker::step_all();
}

/// A checked chain.
#[derive(Debug)]
pub struct Checked(Chain);

impl Checked {
    /// The chain whose head the available ring of `queue` names next; none: there is none. What
    /// is wrong with the chain or the queue is a text.
    ///
    /// # Errors
    /// If the queue can't be used any more.
    pub fn pop(
        queue: &mut virtio_queue::Queue,
        memory: &GuestMemoryMmap,
    ) -> Result<Option<(u16, Result<Self, String>)>, String> {
        let next = queue::pop(queue, memory).map_err(|error| error.to_string())?;
        let check = |descriptors: queue::Descriptors<'_>| {
            let head = descriptors.head_index();
            let chain = queue::collect(descriptors, memory).map(Self);
            (head, chain.map_err(|error| error.to_string()))
        };
        Ok(next.map(check))
    }

    /// Bytes that the device may read, and that it may write.
    pub fn lengths(&self) -> [usize; 2] {
        [self.0.readable.len(), self.0.writable.len()]
    }

    /// Where the bytes are that the device may read, from `offset` on: for each piece its place in
    /// the host's memory and its length. None if there are fewer than `len`.
    pub fn readable(
        &self,
        memory: &GuestMemoryMmap,
        offset: usize,
        len: usize,
    ) -> Option<Vec<(usize, usize)>> {
        places(&self.0.readable, memory, offset, len)
    }

    /// The same for the bytes that the device may write.
    pub fn writable(
        &self,
        memory: &GuestMemoryMmap,
        offset: usize,
        len: usize,
    ) -> Option<Vec<(usize, usize)>> {
        places(&self.0.writable, memory, offset, len)
    }

    /// Reads from the readable bytes, and writes the same to the writable ones, as far as they go.
    pub fn copy(&self, memory: &GuestMemoryMmap, offset: usize, bytes: &mut [u8]) -> [bool; 2] {
        let read = self.0.readable.read_at(memory, offset, bytes);
        let written = self.0.writable.write_at(memory, offset, bytes);
        [read.is_ok(), written.is_ok()]
    }
}

fn places(
    buffer: &Buffer,
    memory: &GuestMemoryMmap,
    offset: usize,
    len: usize,
) -> Option<Vec<(usize, usize)>> {
    let slices = buffer.slices(memory, offset, len).ok()?;
    let place =
        |slice: &vm_memory::VolatileSlice<'_>| (slice.ptr_guard().as_ptr().addr(), slice.len());
    Some(slices.iter().map(place).collect())
}

/// Gives back chains: heads and lengths. Says whether the driver wants an interrupt.
///
/// # Errors
/// If the queue can't be used any more.
pub fn push(
    queue: &mut virtio_queue::Queue,
    memory: &GuestMemoryMmap,
    used: &[(u16, u32)],
) -> Result<bool, String> {
    queue::push(queue, memory, used).map_err(|error| error.to_string())
}

/// How many chains the driver has under way, and whether there is one to be taken.
///
/// # Errors
/// If the queue can't be used any more.
pub fn outlook(
    queue: &virtio_queue::Queue,
    memory: &GuestMemoryMmap,
) -> Result<(u16, bool), String> {
    let under_way = queue::under_way(queue, memory).map_err(|error| error.to_string())?;
    let asked = queue::asked(queue, memory).map_err(|error| error.to_string())?;
    Ok((under_way, asked))
}
