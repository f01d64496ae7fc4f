//! The node's images: which there are, what they are called, and where their layers' files are.
//!
//! One process has the store, and one of its threads changes it at a time. Changes wait for the
//! disk, so async code calls them on a thread for that. Reading a [`View`], and holding an image,
//! wait for nobody.
//!
//! ```text
//! pull:       Store::lease → Lease::find or Lease::keep for each layer → Lease::commit
//! container:  Store::hold → Hold::end
//! start:      Store::open → Store::hold for what runs already → Store::uses_known
//! ```
//! - An image is added in one transaction, after all its layers' files are in place.
//! - A removal's rows go first, then the files: before it answers, or when the last use ends.
//! - A file that no row, lease or use needs is deleted, at the latest by the next opening.
//!
//! The machine may lose power before a layer's content is on the disk. Until
//! [`Store::settle`] has seen to that, the layer's row names the boot of the machine, and another
//! boot does not believe in the file.

mod change;
mod database;
mod error;
mod files;
mod image;
mod lease;
mod memory;
mod removal;
mod staged;
mod sweep;
mod tables;
mod view;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

pub use error::StoreError;
pub use image::{Image, ImageLayer, MAX_NAMES, MAX_USER, NewImage};
pub use lease::{Hold, Lease};
pub use removal::{Prune, Removed};
pub use staged::Staged;
pub use sweep::{Broken, Findings, Problem};
pub use view::{MIN_PREFIX, View};

use crate::digest::Digest;
use crate::text::quoted;
use database::Database;
use error::at;
use files::Files;
use memory::Memory;

/// The kernel's name of this boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The image store. A clone is the same store, which is closed with the last clone, lease and hold.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Declared first, so that the database is closed before the directory's lock goes.
    database: Database,
    files: Files,
    boot: String,
    /// Held by whoever changes rows or files.
    writer: Mutex<()>,
    memory: Mutex<Memory>,
    view: RwLock<Arc<View>>,
}

/// What the layers take of their file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// A directory of that file system: the store's.
    pub directory: PathBuf,
    /// Bytes on the disk.
    pub bytes: u64,
    /// How many files.
    pub inodes: u64,
    /// When this was so.
    pub at: SystemTime,
}

impl Store {
    /// Opens the store in `directory`, which is created if it is missing, and cleans up after a
    /// process that ended in the middle of something.
    ///
    /// Nothing that containers may use is deleted before [`Store::uses_known`].
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Newer`] and [`StoreError::Damaged`] leave the store as
    /// it is.
    pub fn open(directory: &Path) -> Result<(Self, Findings), StoreError> {
        let boot = std::fs::read_to_string(BOOT_ID).map_err(at("reading", Path::new(BOOT_ID)))?;
        let files = Files::open(directory)?;
        let database = open_with_room(&files)?;
        let found = tables::prepare(&database)?;
        if found > tables::VERSION {
            let (path, known) = (directory.to_owned(), tables::VERSION);
            return Err(StoreError::Newer { path, found, known });
        }
        files.lay_out()?;
        let shared = Arc::new(Shared {
            database,
            files,
            boot: boot.trim().to_owned(),
            writer: Mutex::default(),
            memory: Mutex::default(),
            view: RwLock::default(),
        });
        let findings = shared.sweep()?;
        Ok((Self(shared), findings))
    }

    /// The images as they are now.
    pub fn view(&self) -> Arc<View> {
        self.0.view()
    }

    /// The bytes of an image's configuration. Reads the disk, and waits for no change.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such image.
    pub fn config(&self, id: &Digest) -> Result<Vec<u8>, StoreError> {
        let config =
            self.0.database.read("reading a configuration", |rows| tables::config(rows, id))?;
        config.ok_or_else(|| not_found(id))
    }

    /// Where a layer's file is. Hold its image as long as the file is used.
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.0.files.layer(diff_id)
    }

    /// What the layers take of the disk.
    pub fn usage(&self) -> Usage {
        let memory = self.0.memory();
        Usage {
            directory: self.0.files.root().to_owned(),
            bytes: memory.layers.values().map(|layer| layer.measure.allocated).sum(),
            inodes: memory.layers.len() as u64,
            at: SystemTime::now(),
        }
    }

    /// A lease for one pull.
    pub fn lease(&self) -> Lease {
        Lease::new(self.0.clone())
    }

    /// An empty file to make a layer in.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it can't be created.
    pub fn stage(&self) -> Result<Staged, StoreError> {
        self.0.files.stage()
    }

    /// Holds an image's layers for a container, or for a volume of one. Waits for no disk.
    ///
    /// Before [`Store::uses_known`], an image that was removed while it was used can be held too.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such image, or it is being removed.
    pub fn hold(&self, id: &Digest) -> Result<Hold, StoreError> {
        let mut memory = self.0.memory();
        let view = self.0.view();
        let found = if memory.uses_known { view.get(id) } else { view.get_also_hidden(id) };
        let image = found.ok_or_else(|| not_found(id))?.clone();
        if !memory.hold(id, image::now()) {
            return Err(not_found(id));
        }
        drop(memory);
        Ok(Hold::new(self.0.clone(), image))
    }
}

impl Shared {
    fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for other changes. What follows can rely on the view: if the last change could not
    /// make a new one, that is done first.
    fn writer(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        let guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = self.memory().stale;
        if stale {
            self.publish()?;
        }
        Ok(guard)
    }
}

/// Opens the database, also on a full disk: putting right what a crash left may need room.
fn open_with_room(files: &Files) -> Result<Database, StoreError> {
    match Database::open(&files.database()) {
        Err(error) if error.is_full() && files.give_room()? => Database::open(&files.database()),
        opened => opened,
    }
}

fn not_found(id: &Digest) -> StoreError {
    StoreError::NotFound { name: quoted(id.as_str()) }
}

/// Where a test ends the process, or the disk, at a step. Nothing in a product.
#[cfg(not(test))]
fn step() {}

#[cfg(test)]
use tests::crash::step;

#[cfg(test)]
pub(crate) mod tests;
