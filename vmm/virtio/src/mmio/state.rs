//! A window's state outside of the guest's memory: parked, and gone on with by another window.
//!
//! ```text
//!   active ── park ──► parked ── unpark ──► active            nothing has changed
//!                         │
//!                  TransportState ── restore ──► active       another process, another host side
//! ```
//!
//! Everything in a [`TransportState`] is a guest's choice, or that of whoever wrote the file that it
//! was read from. [`MmioTransport::restore`] lets nothing come to be that a driver could not have
//! brought about by its registers.
//!
//! An interrupt that was on its way when the machine was saved is lost, and so is a kick. Both are
//! made good: each restored queue is kicked once, and the driver gets an interrupt, at which it
//! finds what there is, or nothing. The kick arms the notifications by index anew (§2.7.10).

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::queue_setup::{SetupError, Written};
use super::{ActivationError, MmioTransport, Selectors, Shadow, VIRTIO_F_VERSION_1};
use crate::device::{Device, ParkError, Parked};
use crate::interrupt::{INTERRUPT_CONFIG_CHANGE, INTERRUPT_USED_RING};
use crate::registers::{self, status};

/// A window's state outside of the guest's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportState {
    device_id: u32,
    config: Vec<u8>,
    status: u32,
    interrupt_status: u32,
    selected: Selectors,
    driver_features: u64,
    queues: Vec<Written>,
    parked: Parked,
}

impl TransportState {
    /// Type of the device (virtio 1.3 §5).
    pub fn device_id(&self) -> u32 {
        self.device_id
    }
}

/// A state that a device can't go on with.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The state is that of another kind of device.
    #[error("the saved device has type {saved}, this one {found}")]
    Kind {
        /// Type of the device that was saved.
        saved: u32,
        /// Type of the device that is to go on.
        found: u32,
    },
    /// The device shows something else than the saved one, such as a disk of another size.
    #[error("its configuration space is not the saved one's: give it the same host side")]
    Config,
    /// The driver accepted what the device does not offer.
    #[error("the driver's features are {accepted:#x}, the device offers {offered:#x}")]
    Features {
        /// Features that the driver accepted.
        accepted: u64,
        /// Features that the device offers.
        offered: u64,
    },
    /// No driver can bring a device into this status.
    #[error("the saved status is {status:#x}, with interrupts for {interrupts:#x}")]
    Status {
        /// The status register.
        status: u32,
        /// The interrupt status register.
        interrupts: u32,
    },
    /// The state has other queues than the device.
    #[error("{saved} queues and {positions} places in them were saved, the device has {found}")]
    Queues {
        /// Number of queues in the state.
        saved: usize,
        /// Number of places in queues.
        positions: usize,
        /// Number of queues of the device.
        found: usize,
    },
    /// A queue could not have been enabled.
    #[error("queue {index} can't be used: {reason}")]
    Queue {
        /// Which queue.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The host refused something.
    #[error("event descriptor")]
    Host(#[source] io::Error),
    /// The device can't be activated.
    #[error("activate: {0}")]
    Activate(String),
}

impl MmioTransport {
    /// Stops the device where another can go on, and says from where. Nothing of the window changes
    /// until [`MmioTransport::unpark`]: the guest must not run.
    ///
    /// # Errors
    /// [`ParkError`]; the device then goes on as before.
    pub fn park(&mut self) -> Result<TransportState, ParkError> {
        if self.status() & status::DEVICE_NEEDS_RESET != 0 {
            return Err(ParkError::Failed);
        }
        let parked = self.device.park()?;
        let description = self.device.description();
        Ok(TransportState {
            device_id: description.device_id,
            config: description.config.clone(),
            status: self.status(),
            interrupt_status: self.shadow.read(registers::INTERRUPT_STATUS),
            selected: self.selected,
            driver_features: self.driver_features,
            queues: self.queues.iter().map(|queue| queue.written()).collect(),
            parked,
        })
    }

    /// Lets a device go on that was just parked. One that can't shows its driver that it needs a
    /// reset.
    pub fn unpark(&mut self, state: &TransportState) {
        if self.active
            && let Err(error) = self.go_on(&state.parked)
        {
            self.failure_report().send(error.to_string());
        }
    }

    /// A window with `device`, which goes on where the saved one was. The other arguments are those
    /// of [`MmioTransport::new`].
    ///
    /// # Errors
    /// [`RestoreError`] that says in what the device and the state differ.
    pub fn restore(
        device: Box<dyn Device>,
        memory: GuestMemoryMmap,
        line: Arc<EventFd>,
        shadow: Shadow,
        state: &TransportState,
    ) -> Result<Self, RestoreError> {
        let mut transport = Self::new(device, memory, line, shadow).map_err(RestoreError::Host)?;
        transport.check(state)?;
        transport.selected = state.selected;
        transport.driver_features = state.driver_features;
        let Self { queues, memory, .. } = &mut transport;
        for (index, (queue, written)) in queues.iter_mut().zip(&state.queues).enumerate() {
            let restored = queue.restore(*written, memory);
            restored.map_err(|error: SetupError| RestoreError::Queue {
                index,
                reason: error.to_string(),
            })?;
        }
        transport.shadow.set(registers::STATUS, state.status);
        transport.shadow.set(registers::INTERRUPT_STATUS, state.interrupt_status);
        transport.show();
        if state.status & status::DRIVER_OK != 0 {
            transport.active = true;
            transport.interrupt.begin();
            let went = transport.go_on(&state.parked);
            went.map_err(|error| RestoreError::Activate(error.to_string()))?;
        }
        Ok(transport)
    }

    /// Activates the device where it was parked, and makes good what may be lost.
    fn go_on(&mut self, parked: &Parked) -> Result<(), ActivationError> {
        self.activate(Some(parked))?;
        for (queue, kick) in self.queues.iter().zip(&self.kicks) {
            if queue.ready() {
                kick.write(1).map_err(ActivationError::Kick)?;
            }
        }
        self.interrupt.signal_used().map_err(ActivationError::Kick)
    }

    /// Checks all but the queues' registers.
    fn check(&self, state: &TransportState) -> Result<(), RestoreError> {
        let description = self.device.description();
        if state.device_id != description.device_id {
            let (saved, found) = (state.device_id, description.device_id);
            return Err(RestoreError::Kind { saved, found });
        }
        if state.config != description.config {
            return Err(RestoreError::Config);
        }
        let ready = state.queues.iter().filter(|queue| queue.ready).count();
        let active = state.status & status::DRIVER_OK != 0;
        let positions = state.parked.positions.len();
        let (saved, found) = (state.queues.len(), self.queues.len());
        if saved != found || positions != if active { ready } else { 0 } {
            return Err(RestoreError::Queues { saved, positions, found });
        }
        let agreed = state.status & status::FEATURES_OK != 0;
        let modern = state.driver_features & VIRTIO_F_VERSION_1 != 0;
        if agreed && (state.driver_features & !self.offered() != 0 || !modern) {
            let (accepted, offered) = (state.driver_features, self.offered());
            return Err(RestoreError::Features { accepted, offered });
        }
        if !reachable(state.status) || !plausible(state, active) || ready > 0 && !agreed {
            let (status, interrupts) = (state.status, state.interrupt_status);
            return Err(RestoreError::Status { status, interrupts });
        }
        Ok(())
    }
}

/// Whether a driver can have brought a device into this status: the bits come in order, and
/// `FAILED` at any time (§2.1). A device that needs a reset is not saved.
fn reachable(value: u32) -> bool {
    let order = [status::ACKNOWLEDGE, status::DRIVER, status::FEATURES_OK, status::DRIVER_OK];
    let set = order.map(|bit| value & bit != 0);
    value & !status::DRIVER_BITS == 0 && set.windows(2).all(|pair| pair[0] || !pair[1])
}

/// Whether interrupts can have these reasons: used buffers show exactly while the device is active.
fn plausible(state: &TransportState, active: bool) -> bool {
    let used = if active { INTERRUPT_USED_RING } else { 0 };
    state.interrupt_status & !INTERRUPT_CONFIG_CHANGE == used
}

#[cfg(test)]
mod tests;
