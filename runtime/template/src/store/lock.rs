//! The lock of whoever changes the store. It ends with its process, however that ends. So what a
//! builder that was killed has left can be told from what one is at work on.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Store;
use crate::TemplateError;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "its descriptor is the lock")] File);

impl Store {
    fn lock_file(&self) -> PathBuf {
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        self.0.with_file_name(name)
    }

    fn open_lock(&self) -> Result<File, TemplateError> {
        let path = self.lock_file();
        if let Some(parent) = path.parent() {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(parent);
            made.map_err(self.failed("making", parent))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).map_err(self.failed("opening", &path))
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// [`TemplateError::Busy`] if another process has it.
    pub fn try_lock(&self) -> Result<Lock, TemplateError> {
        self.take(FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock, and waits for whoever has it; no builder has it for ever.
    ///
    /// # Errors
    /// [`TemplateError::Store`] with what the kernel answered.
    pub fn lock(&self) -> Result<Lock, TemplateError> {
        self.take(FlockOperation::LockExclusive)
    }

    /// Whether a process has it.
    pub fn is_busy(&self) -> bool {
        let Ok(file) = File::open(self.lock_file()) else { return false };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    fn take(&self, how: FlockOperation) -> Result<Lock, TemplateError> {
        let path = self.lock_file();
        let mut file = self.open_lock()?;
        match rustix::fs::flock(&file, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let holder = std::fs::read_to_string(&path).unwrap_or_default();
                return Err(TemplateError::Busy(holder.trim().to_owned()));
            }
            Err(error) => return Err(self.failed("locking", &path)(error.into())),
        }
        // Its number is for people.
        let signed = file.rewind().and_then(|()| file.set_len(0));
        let signed = signed.and_then(|()| writeln!(file, "{}", std::process::id()));
        signed.map_err(self.failed("writing", &path))?;
        Ok(Lock(file))
    }

    /// Removes the lock's file with the store. Whoever waits for it has another one then, which
    /// costs a template that is built twice, and no more.
    pub(super) fn remove_lock(&self) {
        let _gone = std::fs::remove_file(self.lock_file());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(&dir.path().join("run/templates"));
        assert!(!store.is_busy());
        let lock = store.try_lock().unwrap();
        assert!(store.is_busy());
        let error = store.try_lock().unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        let waiting = store.clone();
        let second = std::thread::spawn(move || waiting.lock().map(drop));
        drop(lock);
        second.join().unwrap().unwrap();
        assert!(!store.is_busy());
        drop(store.try_lock().unwrap());
    }
}
