//! A template that is being built. Nobody finds it before it is complete, and nothing stays of one
//! that never is.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use host::store::StateDir;
use vmm_api::pages::{self, Run};

use super::sweep::RUN;
use super::{MEMORY, RECORD, STATE, Store, WRITTEN};
use crate::{Key, Record, TemplateError};

/// The directory of what is built, which goes with the value unless it is published.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    store: &'a Store,
    key: &'a Key,
    path: PathBuf,
}

impl<'a> Draft<'a> {
    /// An empty one.
    ///
    /// # Errors
    /// [`TemplateError::Store`] with what the filesystem answered.
    pub(crate) fn new(store: &'a Store, key: &'a Key) -> Result<Self, TemplateError> {
        Ok(Self { store, key, path: store.scratch(key, "new")? })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the builder's machine has on the host.
    pub(crate) fn run(&self) -> StateDir {
        StateDir::at(&self.path.join(RUN))
    }

    /// Makes the file that is the memory of the machine, of `mib` MiB.
    ///
    /// # Errors
    /// [`TemplateError::Store`] with what the filesystem answered.
    pub(crate) fn memory(&self, mib: u64) -> Result<File, TemplateError> {
        let memory = self.create(MEMORY)?;
        let sized = memory.set_len(mib << 20);
        sized.map_err(self.store.failed("making", &self.path.join(MEMORY)))?;
        Ok(memory)
    }

    /// Makes the file that takes the machine's state.
    ///
    /// # Errors
    /// [`TemplateError::Store`] with what the filesystem answered.
    pub(crate) fn state(&self) -> Result<File, TemplateError> {
        self.create(STATE)
    }

    /// Writes down which pages clones will write.
    ///
    /// # Errors
    /// [`TemplateError::Store`] with what the filesystem answered.
    pub(crate) fn written(&self, runs: &[Run]) -> Result<(), TemplateError> {
        let mut file = self.create(WRITTEN)?;
        let written = file.write_all(&pages::encode(runs));
        let path = self.path.join(WRITTEN);
        written.map_err(self.store.failed("writing", &path))?;
        let closed = file.set_permissions(Permissions::from_mode(0o400));
        closed.map_err(self.store.failed("closing", &path))
    }

    fn create(&self, name: &str) -> Result<File, TemplateError> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(&path).map_err(self.store.failed("making", &path))
    }

    /// Writes down what was built; nothing is written to it any more.
    ///
    /// # Errors
    /// [`TemplateError::Store`] with what the filesystem answered.
    pub(crate) fn record(&self, record: &Record) -> Result<(), TemplateError> {
        let text = serde_json::to_vec_pretty(record).map_err(TemplateError::Recipe)?;
        let path = self.path.join(RECORD);
        std::fs::write(&path, text).map_err(self.store.failed("writing", &path))?;
        for name in [MEMORY, STATE, RECORD] {
            let path = self.path.join(name);
            let closed = std::fs::set_permissions(&path, Permissions::from_mode(0o400));
            closed.map_err(self.store.failed("closing", &path))?;
        }
        Ok(())
    }

    /// Lets everybody find the template.
    ///
    /// # Errors
    /// [`TemplateError::Store`] with what the filesystem answered.
    pub(crate) fn publish(self) -> Result<(), TemplateError> {
        let run = self.path.join(RUN);
        let cleared = self.run().destroy();
        cleared.map_err(self.store.failed("removing", &run))?;
        let place = self.store.directory(self.key);
        std::fs::rename(&self.path, &place).map_err(self.store.failed("publishing", &place))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.path.exists() {
            self.store.clear(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn draft_is_nothing_until_it_is_published_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, key) = (Store::at(dir.path()), KEY.parse::<Key>().unwrap());
        let draft = Draft::new(&store, &key).unwrap();
        draft.memory(64).unwrap();
        draft.state().unwrap();
        draft.run().create().unwrap();
        assert!(store.list().unwrap().is_empty() && store.get(&key).unwrap().is_none());
        drop(draft);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let draft = Draft::new(&store, &key).unwrap();
        draft.memory(64).unwrap();
        draft.run().create().unwrap();
        draft.publish().unwrap();
        let names: Vec<_> = std::fs::read_dir(dir.path().join(KEY)).unwrap().flatten().collect();
        assert_eq!((names.len(), names[0].file_name()), (1, MEMORY.into()));
    }
}
