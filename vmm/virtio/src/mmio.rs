//! One virtio-mmio window with a device in it (§4.2).
//!
//! The transport owns the device. It walks the driver through the status bits (§3.1.1),
//! collects features and queues, and activates the device once:
//!
//! ```text
//!   0 ─► ACKNOWLEDGE ─► DRIVER ─► FEATURES_OK ─► DRIVER_OK (device active)
//!   ▲                                                │ device can't start or go on
//!   └───── driver writes 0 (device reset) ◄── DEVICE_NEEDS_RESET + interrupt
//! ```
//!
//! Registers take writes of 4 bytes only (§4.2.2.2); others are ignored. Reads never come here: the
//! guest reads the window's [`Shadow`].

mod queue_setup;
mod state;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::device::{Activation, ActiveQueue, Device, DeviceError, FailureReport, Parked};
use crate::interrupt::Interrupt;
use crate::registers::{self, status};
use queue_setup::{QueueSetup, Ring, SetupError};

pub use crate::registers::{INTERRUPT_ACK, QUEUE_NOTIFY, WINDOW_SIZE};
pub use crate::shadow::{Shadow, Shadows};
pub use state::{RestoreError, TransportState};

/// The modern interface of version 1.0 and later (§6), which is the only one here.
pub(crate) const VIRTIO_F_VERSION_1: u64 = 1 << 32;

/// Notification suppression by index (§2.7.10).
pub(crate) const VIRTIO_F_EVENT_IDX: u64 = 1 << 29;

/// Why a ready driver's device was not activated.
#[derive(Debug, thiserror::Error)]
enum ActivationError {
    #[error("queue {index}: {source}")]
    Setup { index: u16, source: SetupError },
    #[error("duplicate kick event: {0}")]
    Kick(io::Error),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What the driver has selected to read or write next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Selectors {
    device_features: u32,
    driver_features: u32,
    queue: u32,
}

/// A window with a device. Dropping it resets the device and leaves the window empty.
pub struct MmioTransport {
    device: Box<dyn Device>,
    memory: GuestMemoryMmap,
    kicks: Vec<Arc<EventFd>>,
    interrupt: Interrupt,
    /// What the driver reads. The device's worker sets `DEVICE_NEEDS_RESET` in the status.
    shadow: Shadow,
    selected: Selectors,
    driver_features: u64,
    queues: Vec<QueueSetup>,
    active: bool,
}

impl std::fmt::Debug for MmioTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MmioTransport")
            .field("device", self.device.description())
            .field("status", &self.status())
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

impl MmioTransport {
    /// A window with `device` in it, which works on `memory`. The guest reads `shadow`, where it
    /// finds no device before [`MmioTransport::publish`]. Writing to `line` must pulse the window's
    /// interrupt line (KVM irqfd).
    ///
    /// # Errors
    /// If there are no more event descriptors.
    pub fn new(
        device: Box<dyn Device>,
        memory: GuestMemoryMmap,
        line: Arc<EventFd>,
        shadow: Shadow,
    ) -> io::Result<Self> {
        let sizes = &device.description().queue_sizes;
        let kicks = sizes
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new))
            .collect::<io::Result<_>>()?;
        let queues = sizes.iter().copied().map(QueueSetup::new).collect();
        let transport = Self {
            interrupt: Interrupt::new(line, shadow.clone()),
            shadow,
            selected: Selectors::default(),
            driver_features: 0,
            active: false,
            device,
            memory,
            kicks,
            queues,
        };
        transport.show();
        transport.shadow.fill(&transport.device.description().config);
        Ok(transport)
    }

    /// Shows the guest that there is a device. Only now may a driver find it, whose writes must come
    /// here from the first one on.
    pub fn publish(&self) {
        self.shadow.set(registers::DEVICE_ID, self.device.description().device_id);
    }

    /// Shows the guest that there is no device any more.
    pub fn withdraw(&self) {
        self.shadow.set(registers::DEVICE_ID, 0);
    }

    /// One event per queue, which its worker waits for. A machine registers each with KVM for
    /// 4-byte writes of the queue's index to [`QUEUE_NOTIFY`] (ioeventfd with data match);
    /// writes that reach [`MmioTransport::write`] all the same work too.
    pub fn kicks(&self) -> &[Arc<EventFd>] {
        &self.kicks
    }

    /// The guest writes `data` at `offset` of the window.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        // No device here has configuration that a driver may write.
        if offset >= registers::CONFIG {
            return guest_warn!("write to configuration space at {offset:#x} ignored");
        }
        match <[u8; 4]>::try_from(data) {
            Ok(bytes) => self.set_register(offset, u32::from_le_bytes(bytes)),
            Err(_) => guest_warn!("write of {} bytes to register {offset:#x}", data.len()),
        }
        self.show();
    }

    /// Shows what depends on what the driver has selected and done.
    fn show(&self) {
        let queue = self.selected_queue();
        let features = half(self.offered(), self.selected.device_features);
        let size = queue.map_or(0, |queue| queue.max_size().into());
        self.shadow.set(registers::DEVICE_FEATURES, features);
        self.shadow.set(registers::QUEUE_SIZE_MAX, size);
        self.shadow.set(registers::QUEUE_READY, queue.is_some_and(QueueSetup::ready).into());
    }

    fn offered(&self) -> u64 {
        self.device.description().features | VIRTIO_F_VERSION_1
    }

    fn set_register(&mut self, offset: u64, value: u32) {
        match offset {
            registers::DEVICE_FEATURES_SEL => self.selected.device_features = value,
            registers::DRIVER_FEATURES_SEL => self.selected.driver_features = value,
            registers::DRIVER_FEATURES => self.set_driver_features(value),
            registers::QUEUE_SEL => self.selected.queue = value,
            registers::QUEUE_NOTIFY => self.notify(value),
            registers::INTERRUPT_ACK => self.interrupt.acknowledge(value),
            registers::STATUS => self.set_status(value),
            // Linux asks for the regions of a file system; there are none, whatever it selects.
            registers::SHM_SEL => {}
            _ => self.set_queue_register(offset, value),
        }
    }

    fn set_driver_features(&mut self, value: u32) {
        if self.status() & status::FEATURES_OK != 0 {
            return guest_warn!("features changed after they were agreed on");
        }
        let value = u64::from(value);
        self.driver_features = match self.selected.driver_features {
            0 => self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features & 0xffff_ffff | value << 32,
            _ => self.driver_features,
        };
    }

    fn selected_queue(&self) -> Option<&QueueSetup> {
        usize::try_from(self.selected.queue).ok().and_then(|index| self.queues.get(index))
    }

    fn set_queue_register(&mut self, offset: u64, value: u32) {
        let status = self.status();
        let selected = usize::try_from(self.selected.queue).ok();
        let Some(queue) = selected.and_then(|index| self.queues.get_mut(index)) else {
            return guest_warn!("register {offset:#x} of queue that does not exist written");
        };
        let phase = status & (status::FEATURES_OK | status::DRIVER_OK);
        // Linux takes its queues back after it has reset the device.
        if status == 0 && offset == registers::QUEUE_READY && value == 0 {
            return;
        }
        if phase != status::FEATURES_OK || queue.ready() && offset != registers::QUEUE_READY {
            return guest_warn!("queue register {offset:#x} written in status {status:#x}");
        }
        match offset {
            registers::QUEUE_SIZE => queue.set_size(value),
            registers::QUEUE_DESC_LOW => queue.set_address(Ring::Descriptors, false, value),
            registers::QUEUE_DESC_HIGH => queue.set_address(Ring::Descriptors, true, value),
            registers::QUEUE_DRIVER_LOW => queue.set_address(Ring::Driver, false, value),
            registers::QUEUE_DRIVER_HIGH => queue.set_address(Ring::Driver, true, value),
            registers::QUEUE_DEVICE_LOW => queue.set_address(Ring::Device, false, value),
            registers::QUEUE_DEVICE_HIGH => queue.set_address(Ring::Device, true, value),
            registers::QUEUE_READY if value == 0 => queue.disable(),
            registers::QUEUE_READY => {
                if let Err(error) = queue.enable(&self.memory) {
                    guest_warn!("queue {} not enabled: {error}", self.selected.queue);
                }
            }
            _ => guest_warn!("write to register {offset:#x} ignored"),
        }
    }

    fn notify(&self, index: u32) {
        let kick = usize::try_from(index).ok().and_then(|index| self.kicks.get(index));
        match kick.map(|kick| kick.write(1)) {
            Some(Ok(())) => {}
            Some(Err(error)) => guest_warn!("kick of queue {index} lost: {error}"),
            None => guest_warn!("kick of queue {index}, which does not exist"),
        }
    }

    fn status(&self) -> u32 {
        self.shadow.read(registers::STATUS)
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        let old = self.status();
        // Only a reset clears bits (§2.1.1); the device's own bit is not the driver's to write.
        let wanted = value & status::DRIVER_BITS;
        if old & status::DRIVER_BITS & !wanted != 0 {
            return guest_warn!("status {old:#x} changed to {value:#x} without a reset");
        }
        let mut granted = old & status::DRIVER_BITS;
        for bit in [status::ACKNOWLEDGE, status::DRIVER, status::FEATURES_OK, status::DRIVER_OK] {
            if wanted & bit == 0 || granted & bit == 0 && !self.may_set(bit, granted) {
                break;
            }
            granted |= bit;
        }
        granted |= wanted & status::FAILED;
        self.shadow.raise(registers::STATUS, granted);
        if granted & !old & status::DRIVER_OK != 0 {
            self.start();
        }
    }

    /// Whether the driver may set a status bit when it has set those in `granted`, all earlier
    /// ones. Features are refused as a whole: `FEATURES_OK` then reads back as unset (§3.1.1).
    fn may_set(&self, bit: u32, granted: u32) -> bool {
        if granted & status::FAILED != 0 {
            return false;
        }
        if bit != status::FEATURES_OK {
            return true;
        }
        let unknown = self.driver_features & !self.offered();
        let modern = self.driver_features & VIRTIO_F_VERSION_1 != 0;
        if unknown != 0 || !modern {
            guest_warn!("features {:#x} refused", self.driver_features);
        }
        unknown == 0 && modern
    }

    fn start(&mut self) {
        self.active = true;
        self.interrupt.begin();
        if let Err(error) = self.activate(None) {
            // Not only the guest can cause this, but only the guest can repeat it.
            guest_warn!("device {}: {error}", self.device.description().device_id);
            self.failure_report().send(error.to_string());
        }
    }

    /// Activates the device: for a new driver, or to go on where it was `parked`.
    fn activate(&mut self, parked: Option<&Parked>) -> Result<(), ActivationError> {
        let event_idx = self.driver_features & VIRTIO_F_EVENT_IDX != 0;
        let mut positions = parked.iter().flat_map(|parked| &parked.positions);
        let mut queues = Vec::new();
        for ((index, setup), kick) in (0..).zip(&self.queues).zip(&self.kicks) {
            if !setup.ready() {
                continue;
            }
            let mut queue = setup
                .build(&self.memory, event_idx)
                .map_err(|source| ActivationError::Setup { index, source })?;
            if let Some(position) = positions.next() {
                queue.set_next_avail(position.next_avail);
                queue.set_next_used(position.next_used);
            }
            let kick = kick.try_clone().map_err(ActivationError::Kick)?;
            queues.push(ActiveQueue { index, queue, kick });
        }
        self.device.activate(Activation {
            memory: self.memory.clone(),
            features: self.driver_features,
            queues,
            interrupt: self.interrupt.clone(),
            failed: self.failure_report(),
            note: parked.map(|parked| parked.note),
        })?;
        Ok(())
    }

    /// Tells the driver that only a reset helps (§2.1.2).
    fn failure_report(&self) -> FailureReport {
        let shadow = self.shadow.clone();
        let interrupt = self.interrupt.clone();
        let device = self.device.description().device_id;
        FailureReport::new(move |reason| {
            guest_warn!("device {device} stopped: {reason}");
            shadow.raise(registers::STATUS, status::DEVICE_NEEDS_RESET);
            if let Err(error) = interrupt.signal_config_change() {
                guest_warn!("device {device}: interrupt lost: {error}");
            }
        })
    }

    fn reset(&mut self) {
        if std::mem::take(&mut self.active) {
            self.device.reset();
        }
        self.shadow.set(registers::STATUS, 0);
        self.interrupt.clear();
        self.selected = Selectors::default();
        self.driver_features = 0;
        for queue in &mut self.queues {
            *queue = QueueSetup::new(queue.max_size());
        }
    }
}

impl Drop for MmioTransport {
    fn drop(&mut self) {
        self.reset();
        self.shadow.empty();
    }
}

/// The lower (0) or upper (1) half of a 64-bit field, 0 for the rest.
fn half(value: u64, selector: u32) -> u32 {
    let bytes = value.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    match selector {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}
