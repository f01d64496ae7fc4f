//! Files and block devices of the host that are disks of the machine.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use api::Error;
use host::mounts::open_read_only;
use machine::Live;
use machine::guest::{GuestDisk, GuestMount};
use vmm_api::{BlockConfig, DeviceConfig, FdSlot, Window};

use crate::blocking::blocking;

/// A disk that the guest has.
#[derive(Debug)]
pub(super) struct Disk {
    window: Window,
    mount_point: String,
    /// How the guest sees it.
    pub(super) guest: GuestDisk,
}

impl Disk {
    /// Gives the guest what `file` holds, to be mounted as `mount` says.
    ///
    /// # Errors
    /// The machine has no window left, or the guest can't use it.
    pub(super) async fn attach(
        file: File,
        read_only: bool,
        mount: &GuestMount,
        live: &Live,
    ) -> Result<Self, Error> {
        let device = BlockConfig::new(FdSlot(0), read_only, "")
            .map_err(|error| Error::Invalid(error.to_string()))?;
        if !read_only {
            live.writes.store(true, Ordering::Relaxed);
        }
        let file = OwnedFd::from(file);
        let window = live.machine.attach(DeviceConfig::Block(device), vec![file]).await?;
        match live.guest.attach(window, mount).await {
            Ok(guest) => Ok(Self { window, mount_point: mount.mount_point.clone(), guest }),
            Err(error) => {
                let released = release(window, &mount.mount_point, live).await;
                released.unwrap_or_else(|left| log::warn!("{left}"));
                Err(error)
            }
        }
    }

    /// Takes it from the guest again; nothing that was written is lost.
    ///
    /// # Errors
    /// The guest does not let go of it: it may hold what is not written yet.
    pub(super) async fn release(self, live: &Live) -> Result<(), Error> {
        release(self.window, &self.mount_point, live).await
    }
}

async fn release(window: Window, mount_point: &str, live: &Live) -> Result<(), Error> {
    // While the guest may still use it, its window stays taken.
    live.guest.detach(window, mount_point).await?;
    live.machine.detach(window).await
}

/// Opens a disk's file or device. One that is read-only is so whatever is done with the descriptor.
///
/// # Errors
/// [`Error::Failed`] with its name.
pub(super) async fn open(source: &Path, read_only: bool) -> Result<File, Error> {
    let doing = format!("opening disk {}", source.display());
    let source = source.to_owned();
    let open = move || {
        let file = match read_only {
            true => open_read_only(&source),
            false => OpenOptions::new().read(true).write(true).open(&source),
        };
        file.map_err(|error| Error::failed(&format!("opening disk {}", source.display()), &error))
    };
    blocking(&doing, open).await
}
