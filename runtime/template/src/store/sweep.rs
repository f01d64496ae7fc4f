//! Clearing up what nobody can use, by the one who has the lock.

use std::path::Path;

use host::store::StateDir;

use super::Store;
use crate::{Key, Lock, TemplateError};

/// What a builder's machine has on the host, in the directory of what is built.
pub(crate) const RUN: &str = "run";

/// Kinds of directories that only the holder of the lock has.
const KINDS: [&str; 3] = [".new-", ".old-", ".try-"];

impl Store {
    /// Removes what builders that were killed have left, and templates whose inputs have changed
    /// or that can't be read. Those of other settings stay as long as their files do.
    ///
    /// # Errors
    /// [`TemplateError::Store`] if the store can't be read. What can't be removed is left to the
    /// next.
    pub fn sweep(&self, lock: &Lock) -> Result<Vec<Key>, TemplateError> {
        self.clear_leftovers(lock)?;
        self.forget_old_failures();
        let stale = self.list()?.into_iter().filter(super::Listed::is_stale);
        let mut removed = Vec::new();
        for template in stale {
            match self.remove(&template.key) {
                Ok(_) => removed.push(template.key),
                Err(error) => log::warn!("{}", api::error::chain(&error)),
            }
        }
        Ok(removed)
    }

    /// Removes what builders that were killed have left.
    ///
    /// # Errors
    /// [`TemplateError::Store`] if the store can't be read.
    pub fn clear_leftovers(&self, _lock: &Lock) -> Result<(), TemplateError> {
        for name in self.names()? {
            if KINDS.iter().any(|kind| name.contains(kind)) {
                self.clear(&self.0.join(name));
            }
        }
        Ok(())
    }

    /// Removes a directory with what runs in it.
    pub(crate) fn clear(&self, directory: &Path) {
        let run = directory.join(RUN);
        let ended = if run.exists() { StateDir::at(&run).destroy() } else { Ok(()) };
        if let Err(error) = ended.and_then(|()| std::fs::remove_dir_all(directory)) {
            log::warn!("removing {}: {error}", directory.display());
        }
    }
}
