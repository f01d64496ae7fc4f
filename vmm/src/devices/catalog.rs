//! The catalogue of virtio devices: makes a device from its configuration.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::time::Instant;

use virtio::blk::Block;
use virtio::console::Console;
use virtio::device::{Device, DeviceError};
use virtio::fs::{Fs, FsConfig};
use virtio::rng::Rng;
use virtio::vsock::{Vsock, VsockConfig};
use virtio::worker::Spawner;
use vmm_api::{DeviceConfig, FdSlot, GUEST_CID, READY_PORT, Window};

use super::watched::Watched;
use crate::jail;
use crate::machine::descriptors::{DescriptorError, Descriptors};
use crate::notice::{Notice, NoticeSender};

/// A device that can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    /// The request names its descriptors wrongly.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// The device refuses its configuration or the host its resources.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What every device gets.
#[derive(Debug)]
pub(crate) struct Maker<'a> {
    /// Makes the device's thread.
    pub(crate) spawner: &'a Spawner,
    /// Hears of the device's failure.
    pub(crate) notices: &'a NoticeSender,
    /// Where the device will sit.
    pub(crate) window: Window,
}

impl Maker<'_> {
    /// Makes the device that `config` describes.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub(crate) fn make(
        &self,
        config: DeviceConfig,
        descriptors: &mut Descriptors,
    ) -> Result<Box<dyn Device>, CatalogError> {
        let device: Box<dyn Device> = match config {
            DeviceConfig::Rng => Box::new(Rng::new(self.spawner)?),
            DeviceConfig::Block(disk) => {
                let file = File::from(descriptors.take(disk.file())?);
                Box::new(Block::new(self.spawner, file, disk.read_only(), disk.serial())?)
            }
            DeviceConfig::Console { output } => {
                let output = File::from(descriptors.take(output)?);
                Box::new(Console::new(self.spawner, output)?)
            }
            DeviceConfig::Vsock { listener } => Box::new(self.vsock(listener, descriptors)?),
            DeviceConfig::Fs { tag, root } => {
                // The jail has made it the directory of that name.
                drop(descriptors.take(root)?);
                let config = FsConfig { tag, root: jail::SHARE.into(), xattr: true };
                Box::new(Fs::new(self.spawner, &config)?)
            }
            DeviceConfig::Net(_) => {
                let source = std::io::ErrorKind::Unsupported.into();
                Err(DeviceError::Host { device: "net", action: "serve a network", source })?
            }
        };
        Ok(Box::new(Watched::new(device, self.window, self.notices.clone())))
    }

    fn vsock(&self, slot: FdSlot, descriptors: &mut Descriptors) -> Result<Vsock, CatalogError> {
        let config = VsockConfig {
            guest_cid: GUEST_CID,
            ready_port: READY_PORT,
            listener: UnixListener::from(descriptors.take(slot)?),
        };
        let notices = self.notices.clone();
        let on_ready = move || notices.send(Notice::GuestReady(Instant::now()));
        Ok(Vsock::new(self.spawner, config, on_ready)?)
    }
}
