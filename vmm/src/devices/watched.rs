//! A device whose failure the machine hears of.

use virtio::device::{Activation, Description, Device, DeviceError, FailureReport};
use vmm_api::Window;

use crate::notice::{Notice, NoticeSender};

/// Passes everything on to a device, and its failures to the control thread as well.
pub(crate) struct Watched {
    /// The device.
    pub(crate) device: Box<dyn Device>,
    /// Where it sits.
    pub(crate) window: Window,
    /// Who hears of its failure.
    pub(crate) notices: NoticeSender,
}

impl Device for Watched {
    fn description(&self) -> &Description {
        self.device.description()
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), DeviceError> {
        let (window, notices) = (self.window, self.notices.clone());
        let to_driver = activation.failed;
        activation.failed = FailureReport::new(move |reason| {
            notices.send(Notice::DeviceFailed { window, reason: reason.clone() });
            to_driver.send(reason);
        });
        self.device.activate(activation).inspect_err(|error| {
            let reason = error.to_string();
            self.notices.send(Notice::DeviceFailed { window, reason });
        })
    }

    fn reset(&mut self) {
        self.device.reset();
    }
}
