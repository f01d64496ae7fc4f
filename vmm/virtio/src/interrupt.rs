//! A device's interrupt: its line, and its reasons in the memory that the driver reads.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::registers::INTERRUPT_STATUS;
use crate::shadow::Shadow;

/// Interrupt status bit: the device used a buffer (virtio 1.3 §4.2.2, `InterruptStatus`).
pub const INTERRUPT_USED_RING: u32 = 1;

/// Interrupt status bit: the device's configuration changed.
pub const INTERRUPT_CONFIG_CHANGE: u32 = 2;

/// Raises a device's interrupt.
///
/// While the device is active, the reasons always say that buffers may have been used. The host's
/// kernel, where it serves queues, could not set that bit. And a driver need not leave the guest to
/// say that it has seen the bit. The price is a driver that looks at its queues in vain when the
/// interrupt was for something else. At other times it does not show: a driver that takes its
/// queues down must not be led to them by a neighbour on its interrupt line.
#[derive(Debug, Clone)]
pub struct Interrupt {
    line: Arc<EventFd>,
    /// Has the reasons for the driver to read (§4.2.2, `InterruptStatus`).
    shadow: Shadow,
}

impl Interrupt {
    /// An interrupt that signals `line`, which KVM turns into an edge on the device's interrupt
    /// line, and shows its reasons in `shadow`.
    pub(crate) fn new(line: Arc<EventFd>, shadow: Shadow) -> Self {
        Self { line, shadow }
    }

    /// The device becomes active.
    pub(crate) fn begin(&self) {
        self.shadow.raise(INTERRUPT_STATUS, INTERRUPT_USED_RING);
    }

    /// Forgets all reasons; the driver has reset the device.
    pub(crate) fn clear(&self) {
        self.shadow.lower(INTERRUPT_STATUS, u32::MAX);
    }

    /// The driver has seen `reasons`.
    pub(crate) fn acknowledge(&self, reasons: u32) {
        self.shadow.lower(INTERRUPT_STATUS, reasons & !INTERRUPT_USED_RING);
    }

    /// The line, for the host's kernel to signal used buffers by itself.
    pub(crate) fn line(&self) -> &EventFd {
        &self.line
    }

    /// Tells the driver that buffers were used.
    ///
    /// # Errors
    /// If the event descriptor can't be written.
    pub fn signal_used(&self) -> std::io::Result<()> {
        self.line.write(1)
    }

    /// Tells the driver that the configuration changed, `DEVICE_NEEDS_RESET` included.
    ///
    /// # Errors
    /// If the event descriptor can't be written.
    pub fn signal_config_change(&self) -> std::io::Result<()> {
        self.shadow.raise(INTERRUPT_STATUS, INTERRUPT_CONFIG_CHANGE);
        self.line.write(1)
    }
}
