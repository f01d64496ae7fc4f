//! What a virtio device is to the machine: a description, and few verbs to drive it.
//!
//! The transport ([`crate::mmio`]) negotiates features and collects queues from what the
//! description says, then activates the device once. From then on the device runs on its own
//! worker thread, woken by queue kicks and by its host-side descriptors.

use serde::{Deserialize, Serialize};
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::interrupt::Interrupt;

/// What a device is, before any driver has touched it. Constant for the device's life.
#[derive(Debug, Clone)]
pub struct Description {
    /// Device type (virtio 1.3 §5), for instance 2 for a disk.
    pub device_id: u32,
    /// Features offered besides `VIRTIO_F_VERSION_1`, which the transport adds.
    pub features: u64,
    /// Largest size of each queue; powers of two, at most 32768 (virtio 1.3 §2.7).
    pub queue_sizes: Vec<u16>,
    /// The device-specific configuration space as the driver reads it; at most 256 bytes, which
    /// is what a window has room for.
    pub config: Vec<u8>,
    /// What would be lost if the device were saved; none for one that can be.
    pub unsavable: Option<&'static str>,
}

/// One queue that the driver has enabled, with the descriptor that its notifications write.
#[derive(Debug)]
pub struct ActiveQueue {
    /// Position in [`Description::queue_sizes`].
    pub index: u16,
    /// The queue, set up and ready.
    pub queue: Queue,
    /// Readable after the driver has notified the queue.
    pub kick: EventFd,
}

/// What a device gets when its driver is ready (`DRIVER_OK`).
#[derive(Debug)]
pub struct Activation {
    /// The guest's memory.
    pub memory: GuestMemoryMmap,
    /// Features that the driver accepted, a subset of those offered.
    pub features: u64,
    /// The enabled queues, in order of their index.
    pub queues: Vec<ActiveQueue>,
    /// How to tell the driver about used buffers.
    pub interrupt: Interrupt,
    /// Where to report that the device can't go on; the argument says why.
    pub failed: FailureReport,
    /// What the device noted when it was parked: its driver has been served before, and the queues
    /// go on where they were. None for a new driver.
    pub note: Option<u32>,
}

/// How far a device has come with a queue (§2.7.13.3 and §2.7.14, the driver's view of the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Index of the next entry of the available ring.
    pub next_avail: u16,
    /// Index of the next entry of the used ring.
    pub next_used: u16,
}

/// What a device needs besides the guest's memory to serve its driver on, here or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Parked {
    /// One for each enabled queue, in order of their index.
    pub positions: Vec<Position>,
    /// A number of the device's own.
    pub note: u32,
}

/// A device that can't be parked. It is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParkError {
    /// Devices of this kind can't be saved.
    #[error("{device}: {reason}")]
    Kind {
        /// The device's name.
        device: &'static str,
        /// What of it would be lost.
        reason: &'static str,
    },
    /// This one can't be saved as it is now.
    #[error("{device}: {reason}, so it can't be saved now")]
    Busy {
        /// The device's name.
        device: &'static str,
        /// What keeps it.
        reason: &'static str,
    },
    /// The device has stopped working.
    #[error("the device has stopped working and waits for a reset")]
    Failed,
}

/// Called at most once, by a device's worker that can't go on.
pub struct FailureReport(Box<dyn FnOnce(String) + Send>);

impl FailureReport {
    /// Wraps what is to be done with the reason of a failure.
    pub fn new(report: impl FnOnce(String) + Send + 'static) -> Self {
        Self(Box::new(report))
    }

    /// Reports that the device stopped working for `reason`, one line.
    pub fn send(self, reason: String) {
        (self.0)(reason);
    }
}

impl std::fmt::Debug for FailureReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FailureReport")
    }
}

/// A device that could not start or stop its worker.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The host refused a thread, an event descriptor or a file operation.
    #[error("{device}: {action}")]
    Host {
        /// The device's name.
        device: &'static str,
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The driver enabled fewer queues than the device can work with.
    #[error("{device}: driver enabled {enabled} of {needed} queues")]
    Queues {
        /// The device's name.
        device: &'static str,
        /// Number of queues that the driver enabled.
        enabled: usize,
        /// Number of queues that the device needs.
        needed: usize,
    },
}

/// A virtio device.
pub trait Device: Send {
    /// What the device is. Must not change while the device sits in a window.
    fn description(&self) -> &Description;

    /// Starts the device's worker. Called when the driver sets `DRIVER_OK`; not called again
    /// before [`Device::reset`].
    ///
    /// # Errors
    /// [`DeviceError`]; the transport then shows the driver `DEVICE_NEEDS_RESET`.
    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError>;

    /// Stops the worker and forgets the driver; the device can be activated again. Waits until
    /// the worker touches guest memory no more. Does nothing if the device is not active.
    fn reset(&mut self);

    /// Stops the worker as [`Device::reset`] does, at a point from where it can go on: nothing is
    /// taken from a queue that was not given back. For a device that is not active, only says
    /// whether it could be saved.
    ///
    /// # Errors
    /// [`ParkError`]; the device then goes on as before.
    fn park(&mut self) -> Result<Parked, ParkError>;
}
