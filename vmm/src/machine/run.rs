//! A machine that runs, and what can be done to it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use kvm_ioctls::VmFd;
use virtio::mmio::TransportState;
use virtio::worker::Spawner;
use vmm_api::{DeviceConfig, Window};

use super::save::{SaveError, Saver};
use crate::descriptors::{DescriptorError, Descriptors};
use crate::devices::catalog::{self, CatalogError};
use crate::notice::{Notice, NoticeSender};
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
    pub(super) vm: Arc<VmFd>,
    /// In a machine that is to be saved.
    pub(super) saver: Option<Saver>,
    spawner: Spawner,
    notices: NoticeSender,
    started: Option<Instant>,
    /// Whether it goes on where a saved one was.
    restored: bool,
}

/// What a machine is put together from.
pub(super) struct Parts {
    pub(super) vcpus: Vcpus,
    pub(super) windows: Arc<Windows>,
    pub(super) vm: Arc<VmFd>,
    pub(super) saver: Option<Saver>,
    pub(super) spawner: Spawner,
}

impl Machine {
    /// A machine whose vCPUs wait.
    pub(super) fn new(parts: Parts, notices: NoticeSender, restored: bool) -> Self {
        let Parts { vcpus, windows, vm, saver, spawner } = parts;
        Self { vcpus, windows, vm, saver, spawner, notices, started: None, restored }
    }

    /// Lets the vCPUs run. The agent of a saved machine was ready, and so it is from the first
    /// moment on.
    pub(crate) fn resume(&mut self) {
        let first = self.started.is_none();
        let started = *self.started.get_or_insert_with(Instant::now);
        self.vcpus.resume();
        if first && self.restored {
            self.notices.send(Notice::GuestReady(started));
        }
    }

    /// Stops the vCPUs; returns once none is in the guest. Devices go on with what they have.
    pub(crate) fn pause(&self) {
        self.vcpus.pause();
    }

    /// Writes the state of the paused machine to an empty file. It must not be resumed after that.
    ///
    /// # Errors
    /// [`SaveError`]; the machine is as before then.
    pub(crate) fn save(&self, file: OwnedFd) -> Result<(), SaveError> {
        let saver = self.saver.as_ref().ok_or(SaveError::NotToBeSaved)?;
        saver.save(&self.windows, &self.vm, &self.vcpus, file)
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
        let device = self.maker(window).make(config, descriptors)?;
        self.windows.attach(window, device)?;
        Ok(window)
    }

    /// Puts a new device into the window of a saved one, to go on from its `state`.
    ///
    /// # Errors
    /// [`MachineError`], also if the device differs from the saved one.
    pub(super) fn restore(
        &self,
        config: DeviceConfig,
        descriptors: &mut Descriptors,
        window: Window,
        state: &TransportState,
    ) -> Result<(), MachineError> {
        let device = self.maker(window).make(config, descriptors)?;
        Ok(self.windows.restore(window, device, state)?)
    }

    fn maker(&self, window: Window) -> catalog::Maker<'_> {
        catalog::Maker { spawner: &self.spawner, notices: &self.notices, window }
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
