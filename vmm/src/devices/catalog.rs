//! The catalogue of virtio devices: makes a device from its configuration.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Instant;

use virtio::device::{Device, DeviceError};
use virtio::fs::FsConfig;
use virtio::vsock::VsockConfig;
use virtio::worker::{Spawner, Worker};
use virtio::{blk, console, fs, net, rng, vsock};
use vmm_api::{DeviceConfig, FdSlot, GUEST_CID, NetConfig, READY_PORT, Window};

use super::tap::{self, TapError};
use super::watched::Watched;
use crate::descriptors::{DescriptorError, Descriptors};
use crate::jail;
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
    /// A descriptor is not that of a tap as a network device needs it.
    #[error("examine tap")]
    Tap(#[source] TapError),
}

/// What a kind of device is called in messages.
pub(crate) fn name(config: &DeviceConfig) -> &'static str {
    match config {
        DeviceConfig::Rng => "rng",
        DeviceConfig::Block(_) => "block",
        DeviceConfig::Vsock { .. } => "vsock",
        DeviceConfig::Fs { .. } => "fs",
        DeviceConfig::Console { .. } => "console",
        DeviceConfig::Net(_) => "net",
    }
}

/// The same by the type that its window shows (virtio 1.3 §5). Only kinds that can be saved have
/// a name.
pub(crate) fn name_of_type(device_id: u32) -> &'static str {
    match device_id {
        2 => "block",
        3 => "console",
        4 => "rng",
        19 => "vsock",
        _ => "unknown",
    }
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
        let device = match config {
            DeviceConfig::Rng => rng::device(self.spawner)?,
            DeviceConfig::Block(disk) => {
                let file = File::from(descriptors.take(disk.file())?);
                blk::device(self.spawner, file, disk.read_only(), disk.serial())?
            }
            DeviceConfig::Console { output } => {
                let output = File::from(descriptors.take(output)?);
                console::device(self.spawner, output, Arc::default())?
            }
            DeviceConfig::Vsock { listener } => self.vsock(listener, descriptors)?,
            DeviceConfig::Fs { tag, root } => {
                // The jail has made it the directory of that name.
                drop(descriptors.take(root)?);
                let max_files = jail::files_of_the_guest();
                let config = FsConfig { tag, root: jail::SHARE.into(), max_files };
                fs::device(self.spawner, &config)?
            }
            DeviceConfig::Net(config) => self.net(&config, descriptors)?,
        };
        Ok(Box::new(Watched::new(Box::new(device), self.window, self.notices.clone())))
    }

    fn net(
        &self,
        config: &NetConfig,
        descriptors: &mut Descriptors,
    ) -> Result<Worker, CatalogError> {
        let mut take = |slots: &[FdSlot]| {
            let files = slots.iter().map(|slot| descriptors.take(*slot).map(File::from));
            files.collect::<Result<Vec<_>, _>>()
        };
        let (taps, vhost) = (take(config.queues())?, take(config.vhost())?);
        for tap in &taps {
            tap::check(tap).map_err(CatalogError::Tap)?;
        }
        let (mac, mtu, calls) = (config.mac(), config.mtu(), tap::CALLS);
        Ok(net::device(self.spawner, net::NetConfig { mac, mtu, taps, vhost, calls })?)
    }

    fn vsock(&self, slot: FdSlot, descriptors: &mut Descriptors) -> Result<Worker, CatalogError> {
        let config = VsockConfig {
            guest_cid: GUEST_CID,
            ready_port: READY_PORT,
            listener: UnixListener::from(descriptors.take(slot)?),
        };
        let notices = self.notices.clone();
        let on_ready = move || notices.send(Notice::GuestReady(Instant::now()));
        Ok(vsock::device(self.spawner, config, on_ready)?)
    }
}
