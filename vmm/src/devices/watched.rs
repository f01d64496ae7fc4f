//! A device whose failure the machine hears of.
//!
//! It hears of the first failure only. The attack: a guest makes a device ready the wrong way,
//! resets it and starts again. It would keep the control thread busy with reports instead of
//! requests. It would fill the memory with those that wait, and the host's disk with the client's
//! log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio::device::{
    Activation, Description, Device, DeviceError, FailureReport, ParkError, Parked,
};
use vmm_api::Window;

use crate::notice::{Notice, NoticeSender};

/// Passes everything on to a device, and its first failure to the control thread as well.
pub(crate) struct Watched {
    device: Box<dyn Device>,
    first: FirstFailure,
}

impl Watched {
    /// Watches `device`, which sits in `window`, for `notices`.
    pub(crate) fn new(device: Box<dyn Device>, window: Window, notices: NoticeSender) -> Self {
        Self { device, first: FirstFailure { window, notices, reported: Arc::default() } }
    }
}

/// Reports a device's first failure.
#[derive(Clone)]
struct FirstFailure {
    window: Window,
    notices: NoticeSender,
    reported: Arc<AtomicBool>,
}

impl FirstFailure {
    fn report(&self, reason: String) {
        if !self.reported.swap(true, Ordering::Relaxed) {
            self.notices.send(Notice::DeviceFailed { window: self.window, reason });
        }
    }
}

impl Device for Watched {
    fn description(&self) -> &Description {
        self.device.description()
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), DeviceError> {
        let first = self.first.clone();
        let to_driver = activation.failed;
        activation.failed = FailureReport::new(move |reason| {
            first.report(reason.clone());
            to_driver.send(reason);
        });
        self.device.activate(activation).inspect_err(|error| self.first.report(error.to_string()))
    }

    fn reset(&mut self) {
        self.device.reset();
    }

    fn park(&mut self) -> Result<Parked, ParkError> {
        self.device.park()
    }
}

#[cfg(test)]
mod tests {
    use virtio::mmio::{MmioTransport, Shadows};
    use virtio::rng;
    use virtio::worker::Spawner;
    use vm_memory::{GuestAddress, GuestMemoryMmap};
    use vmm_sys_util::eventfd::EventFd;

    use super::*;
    use crate::notice::Notices;

    #[test]
    fn a_guest_that_repeats_a_failure_is_reported_once() {
        let (notices, window) = (Notices::new().unwrap(), Window::try_from(3).unwrap());
        let device = Box::new(rng::device(&Spawner::new(|_| Ok(()))).unwrap());
        let device = Box::new(Watched::new(device, window, notices.sender()));
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
        let line = Arc::new(EventFd::new(0).unwrap());
        let shadow = Shadows::new(1).window(0);
        let mut transport = MmioTransport::new(device, memory, line, shadow.clone()).unwrap();
        for _ in 0..100 {
            // VIRTIO_F_VERSION_1, then DRIVER_OK without any queue.
            for (register, value) in [(0x70, 0), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 15)] {
                transport.write(register, &u32::to_le_bytes(value));
            }
            assert_eq!(shadow.read(0x70) & 64, 64, "DEVICE_NEEDS_RESET");
        }
        let notice = notices.next();
        assert!(matches!(&notice, Some(Notice::DeviceFailed { window: at, .. }) if *at == window));
        assert!(notices.next().is_none());
    }
}
