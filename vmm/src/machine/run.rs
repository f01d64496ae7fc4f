//! A machine that runs, and what can be done to it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use virtio::worker::Spawner;
use vmm_api::{DeviceConfig, Window};

use crate::descriptors::{DescriptorError, Descriptors};
use crate::devices::catalog::{self, CatalogError};
use crate::notice::NoticeSender;
use crate::vcpu::Vcpus;
use crate::windows::{WindowError, Windows};

/// A change to a running machine that was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// The request names its descriptors wrongly.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// The device can't be made.
    #[error(transparent)]
    Device(#[from] CatalogError),
    /// The window can't be filled or emptied.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// A kind of device that must be there from the start.
    #[error("a {0} device can be there at boot only")]
    AtBootOnly(&'static str),
}

/// A machine with all its threads.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(super) vcpus: Vcpus,
    pub(super) windows: Arc<Windows>,
    spawner: Spawner,
    notices: NoticeSender,
    started: Option<Instant>,
}

impl Machine {
    /// A machine whose vCPUs wait.
    pub(super) fn new(
        vcpus: Vcpus,
        windows: Arc<Windows>,
        spawner: Spawner,
        notices: NoticeSender,
    ) -> Self {
        Self { vcpus, windows, spawner, notices, started: None }
    }

    /// Lets the vCPUs run.
    pub(crate) fn resume(&mut self) {
        self.started.get_or_insert_with(Instant::now);
        self.vcpus.resume();
    }

    /// Stops the vCPUs; returns once none is in the guest. Devices go on with what they have.
    pub(crate) fn pause(&self) {
        self.vcpus.pause();
    }

    /// When the vCPUs were first let go.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.started
    }

    /// The windows that hold a device.
    pub(crate) fn windows(&self) -> Vec<Window> {
        self.windows.occupied()
    }

    /// Puts a new device into the first free window.
    ///
    /// # Errors
    /// [`MachineError`]; nothing has changed then.
    pub(super) fn attach(
        &self,
        config: DeviceConfig,
        descriptors: &mut Descriptors,
    ) -> Result<Window, MachineError> {
        let window = self.windows.first_free()?;
        let maker = catalog::Maker { spawner: &self.spawner, notices: &self.notices, window };
        let device = maker.make(config, descriptors)?;
        self.windows.attach(window, device)?;
        Ok(window)
    }

    /// Puts a new device into the first free window of the running machine.
    ///
    /// # Errors
    /// [`MachineError`]; nothing has changed then.
    pub(crate) fn hot_attach(
        &self,
        config: DeviceConfig,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Window, MachineError> {
        match config {
            DeviceConfig::Fs { .. } => Err(MachineError::AtBootOnly("fs")),
            DeviceConfig::Vsock { .. } => Err(MachineError::AtBootOnly("vsock")),
            other => self.attach(other, &mut Descriptors::new(descriptors)),
        }
    }

    /// Empties a window.
    ///
    /// # Errors
    /// [`MachineError::Window`] if it is empty.
    pub(crate) fn detach(&self, window: Window) -> Result<(), MachineError> {
        Ok(self.windows.detach(window)?)
    }
}
