//! The store's filesystem.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;

use host::mounts::tmpfs;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use super::Store;
use crate::{Lock, TemplateError};

/// Options of the tmpfs. Guests' kernels lie in huge pages, where the VMM asks for them. No template
/// takes the last half of the host's memory.
const OPTIONS: [(&str, &str); 4] =
    [("huge", "advise"), ("size", "50%"), ("mode", "0700"), ("nr_inodes", "4096")];

impl Store {
    /// Makes the store unless it is there. To be called with the lock held.
    ///
    /// # Errors
    /// [`TemplateError::Store`] with what the kernel answered.
    pub fn prepare(&self, _lock: &Lock) -> Result<(), TemplateError> {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.0);
        made.and_then(|()| self.mount()).map_err(self.failed("mounting", &self.0))
    }

    /// Whether its filesystem is there.
    pub fn is_mounted(&self) -> bool {
        let found = statx(CWD, &self.0, AtFlags::empty(), StatxFlags::empty());
        found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    fn mount(&self) -> io::Result<()> {
        if self.is_mounted() {
            return Ok(());
        }
        // Notes of builds that failed before there was a filesystem.
        for note in std::fs::read_dir(&self.0)?.flatten() {
            std::fs::remove_file(note.path())?;
        }
        let mount = tmpfs(&OPTIONS)?;
        move_mount(&mount, "", CWD, &self.0, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(())
    }

    /// Unmounts and removes the store if no template is in it. Returns whether it is gone.
    ///
    /// # Errors
    /// [`TemplateError::Store`] if it can't be read.
    pub fn dissolve(&self, _lock: &Lock) -> Result<bool, TemplateError> {
        if !self.list()?.is_empty() {
            return Ok(false);
        }
        if self.is_mounted() && unmount(&self.0, UnmountFlags::empty()).is_err() {
            // Somebody looks into it.
            return Ok(false);
        }
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("removing", &self.0)(error));
            }
            _ => self.remove_lock(),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mounting needs root, as all of this crate's work does; the tests run as it.
    #[test]
    fn store_is_mounted_once_and_goes_when_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("templates"));
        let lock = store.try_lock().unwrap();
        assert!(!store.is_mounted());
        store.prepare(&lock).unwrap();
        store.prepare(&lock).unwrap();
        assert!(store.is_mounted());
        let table = host::mounts::table::read().unwrap();
        assert_eq!(table.iter().filter(|mount| mount.point == store.path()).count(), 1);
        let template = store.path().join("0123456789abcdef0123456789abcdef");
        std::fs::create_dir(&template).unwrap();
        assert!(!store.dissolve(&lock).unwrap(), "a template is in it");
        std::fs::remove_dir(&template).unwrap();
        assert!(store.dissolve(&lock).unwrap());
        assert!(!store.path().exists());
        assert!(store.dissolve(&lock).unwrap(), "nothing is there");
    }
}
