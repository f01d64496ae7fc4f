//! Windows of the machine: the driver of a virtio-mmio window is bound when the host has put a
//! device there, and what it drives appears.

mod announcement;
mod uevent;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_api::WINDOWS;

use crate::error::{Error, Result};

/// How long a bound device may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often is looked where the kernel may tell nobody: it does not say that what it has put off can
/// be had.
const AGAIN: Duration = Duration::from_millis(50);

const DRIVER: &str = "/sys/bus/platform/drivers/virtio-mmio";
const DEVICES: &str = "/sys/bus/platform/devices";

/// Where the kernel lists what can be mounted as virtio-fs (`Documentation/ABI/testing/sysfs-fs-virtiofs`).
const SHARES: &str = "/sys/fs/virtiofs";

/// A virtio-mmio window by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Window(u32);

impl Window {
    /// Checks an index.
    ///
    /// # Errors
    /// There is no such window.
    pub(crate) fn new(index: u32) -> Result<Self> {
        if index < WINDOWS.into() {
            Ok(Self(index))
        } else {
            Err(Error::Invalid(format!("window {index}: not 0 to {}", WINDOWS - 1)))
        }
    }

    /// The name of its platform device: ACPI devices LNRO0005:00 to :3f.
    pub(crate) fn name(self) -> String {
        format!("LNRO0005:{:02x}", self.0)
    }

    /// What it drives, by its class (`block`, `net`): for instance `vdb`.
    pub(crate) fn device(self, class: &str) -> Option<String> {
        let below = |path: &Path, prefix: &str| {
            std::fs::read_dir(path).ok()?.flatten().find_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.starts_with(prefix).then_some(name)
            })
        };
        let directory = PathBuf::from(DEVICES).join(self.name());
        let virtio = below(&directory, "virtio")?;
        below(&directory.join(virtio).join(class), "")
    }

    /// Binds its driver and returns the device of that class, which appears.
    ///
    /// # Errors
    /// There is none in the window; it is free again then.
    pub(crate) fn bind(self, class: &str) -> Result<String> {
        self.bind_until(|| self.device(class))
    }

    /// Binds its driver and waits for its share. A share that is listed can be mounted: the kernel
    /// lists it under the lock by which a mount looks for it (`virtio_fs_add_instance`).
    ///
    /// # Errors
    /// There is none in the window; it is free again then.
    pub(crate) fn bind_share(self) -> Result<()> {
        self.bind_until(|| self.has_share().then_some(()))
    }

    /// Whether it drives a share.
    fn has_share(self) -> bool {
        let Ok(home) = std::fs::canonicalize(Path::new(DEVICES).join(self.name())) else {
            return false;
        };
        let mut shares = std::fs::read_dir(SHARES).into_iter().flatten().flatten();
        shares.any(|share| {
            let device = std::fs::canonicalize(share.path().join("device"));
            device.is_ok_and(|device| device.starts_with(&home))
        })
    }

    /// Binds its driver and waits for what `look` finds then.
    fn bind_until<T>(self, look: impl Fn() -> Option<T>) -> Result<T> {
        let uevents = uevent::Uevents::listen().map_err(Error::io("listen for devices"))?;
        if !self.is_known() {
            announcement::load().map_err(Error::io("announce more windows"))?;
        }
        let missing = "the kernel was told of more windows, but not of this one";
        wait(&uevents, missing, || match self.write("bind") {
            Err(error) if is_early(&error) => None,
            done => Some(done.map_err(Error::io(format!("bind {}", self.name())))),
        })??;
        let missing = "no device of the kind appeared in the window";
        wait(&uevents, missing, look).inspect_err(|_| {
            if let Err(error) = self.unbind() {
                log::warn!("{error}");
            }
        })
    }

    /// Lets go of what [`Self::bind`] brought.
    ///
    /// # Errors
    /// It is not bound.
    pub(crate) fn unbind(self) -> Result<()> {
        self.write("unbind").map_err(Error::io(format!("unbind {}", self.name())))
    }

    fn write(self, file: &str) -> io::Result<()> {
        std::fs::write(Path::new(DRIVER).join(file), self.name())
    }

    /// Whether the kernel has been told of it.
    fn is_known(self) -> bool {
        Path::new(DEVICES).join(self.name()).exists()
    }
}

/// Whether a window may be bound a moment later. Of those that the kernel is told of late it lists each
/// before it can be bound, and puts off what comes too soon.
fn is_early(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => true,
        Some(libc::ENODEV) => announcement::is_loaded(),
        _ => false,
    }
}

/// Waits for what is mostly there already; if not, the kernel tells when it may be.
fn wait<T>(
    uevents: &uevent::Uevents,
    missing: &'static str,
    look: impl Fn() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::State(missing));
        }
        uevents.wait(left.min(AGAIN)).map_err(Error::io("wait for a device"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn windows_are_named_as_acpi_does() {
        assert_eq!(Window::new(0).unwrap().name(), "LNRO0005:00");
        assert_eq!(Window::new(63).unwrap().name(), "LNRO0005:3f");
        assert!(Window::new(64).is_err());
    }
}
