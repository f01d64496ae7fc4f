//! What a driver writes about a queue before it is used, and the check of it.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

/// Alignment of the descriptor table, the available ring and the used ring (§2.7).
const ALIGNMENTS: [u64; 3] = [16, 2, 4];

/// Why a queue can't be used as the driver set it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetupError {
    /// The size is not a power of two from 1 to the largest size.
    #[error("size {0} is not a power of two within the limit")]
    Size(u32),
    /// A ring's address is not aligned.
    #[error("address {0:#x} is not aligned")]
    Alignment(u64),
    /// A ring is not wholly in guest memory.
    #[error("ring at {0:#x} is outside of memory")]
    Memory(u64),
}

/// The registers of one queue.
#[derive(Debug)]
pub(super) struct QueueSetup {
    max_size: u16,
    written: Written,
}

/// What a driver has written to the registers of one queue. Unchecked unless `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Written {
    size: u32,
    descriptors: u64,
    driver: u64,
    device: u64,
    pub(super) ready: bool,
}

/// The three parts of a queue (§2.7).
#[derive(Debug, Clone, Copy)]
pub(super) enum Ring {
    /// The descriptor table.
    Descriptors,
    /// The available ring.
    Driver,
    /// The used ring.
    Device,
}

impl QueueSetup {
    /// A queue that the driver has not touched.
    pub(super) fn new(max_size: u16) -> Self {
        Self { max_size, written: Written::default() }
    }

    pub(super) fn max_size(&self) -> u16 {
        self.max_size
    }

    pub(super) fn ready(&self) -> bool {
        self.written.ready
    }

    /// What the driver has written.
    pub(super) fn written(&self) -> Written {
        self.written
    }

    /// A queue as a driver that can't be asked any more has left it.
    ///
    /// # Errors
    /// [`SetupError`] for one that is ready, but can't have been made so.
    pub(super) fn restore(
        &mut self,
        written: Written,
        memory: &GuestMemoryMmap,
    ) -> Result<(), SetupError> {
        self.written = written;
        if written.ready { self.build(memory, false).map(drop) } else { Ok(()) }
    }

    pub(super) fn set_size(&mut self, size: u32) {
        self.written.size = size;
    }

    /// Sets the lower or upper half of a ring's address.
    pub(super) fn set_address(&mut self, ring: Ring, high: bool, value: u32) {
        let address = match ring {
            Ring::Descriptors => &mut self.written.descriptors,
            Ring::Driver => &mut self.written.driver,
            Ring::Device => &mut self.written.device,
        };
        let value = u64::from(value);
        *address = if high {
            *address & 0xffff_ffff | value << 32
        } else {
            *address & !0xffff_ffff | value
        };
    }

    /// Makes the queue ready if all that the driver wrote is valid.
    ///
    /// # Errors
    /// [`SetupError`]; the queue then stays unready, which the driver can read back.
    pub(super) fn enable(&mut self, memory: &GuestMemoryMmap) -> Result<(), SetupError> {
        self.build(memory, false)?;
        self.written.ready = true;
        Ok(())
    }

    /// Takes the queue back from the driver.
    pub(super) fn disable(&mut self) {
        self.written.ready = false;
    }

    /// The queue as the driver set it up.
    ///
    /// # Errors
    /// [`SetupError`] if what the driver wrote is invalid.
    pub(super) fn build(
        &self,
        memory: &GuestMemoryMmap,
        event_idx: bool,
    ) -> Result<Queue, SetupError> {
        let Written { size, descriptors, driver, device, .. } = self.written;
        let invalid = SetupError::Size(size);
        let size = u16::try_from(size).map_err(|_| invalid)?;
        if !size.is_power_of_two() || size > self.max_size {
            return Err(invalid);
        }
        let entries = u64::from(size);
        // Without the trailing event index of the two rings, which only some features use, a
        // ring would still be 2 bytes shorter; it is always there, so it must always fit.
        let lengths = [16 * entries, 6 + 2 * entries, 6 + 8 * entries];
        let addresses = [descriptors, driver, device];
        for ((address, alignment), length) in addresses.into_iter().zip(ALIGNMENTS).zip(lengths) {
            if address % alignment != 0 {
                return Err(SetupError::Alignment(address));
            }
            let fits = usize::try_from(length)
                .is_ok_and(|length| memory.check_range(GuestAddress(address), length));
            if address == 0 || !fits {
                return Err(SetupError::Memory(address));
            }
        }
        let mut queue = Queue::new(self.max_size).map_err(|_| invalid)?;
        queue.try_set_size(size).map_err(|_| invalid)?;
        let set = |result: Result<(), virtio_queue::Error>, address| {
            result.map_err(|_| SetupError::Alignment(address))
        };
        set(queue.try_set_desc_table_address(GuestAddress(descriptors)), descriptors)?;
        set(queue.try_set_avail_ring_address(GuestAddress(driver)), driver)?;
        set(queue.try_set_used_ring_address(GuestAddress(device)), device)?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Ok(queue)
    }
}
