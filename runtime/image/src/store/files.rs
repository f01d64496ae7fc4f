//! The store's directory.
//!
//! ```text
//! images.redb                             rows: images, names, layers
//! layers/v2/sha256/<xx>/<hex>.erofs       layers by the digest of their tar archive (diff id)
//! staging/<number>                        layers that are being made
//! reserve                                 room for a removal on a full disk
//! ```
//! Below `layers/v2` it is containerd's content cache. `v2` is the form of our EROFS files: what a
//! later version writes is elsewhere, and is left alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use super::error::{StoreError, at, patiently};
use super::staged::{Measure, Staged};
use crate::digest::Digest;

/// Bytes that are set aside: many times what a removal's rows take.
const RESERVE: u64 = 1 << 20;

const LAYERS: &str = "layers/v2";
const EXTENSION: &str = "erofs";

/// The directory, while this process has it.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// Its lock ends with the process, however that ends.
    _lock: File,
    staged: AtomicU64,
}

impl Files {
    /// Creates what is missing, and takes the directory for this process.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        directory(root)?;
        let private = fs::set_permissions(root, fs::Permissions::from_mode(0o700));
        private.map_err(at("closing to others", root))?;
        let lock = File::open(root).map_err(at("opening", root))?;
        patiently(|| match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path: root.to_owned() }),
            Err(error) => Err(at("locking", root)(error.into())),
        })?;
        Ok(Self { root: root.to_owned(), _lock: lock, staged: AtomicU64::new(0) })
    }

    /// Creates the directories, once the database is known to be of this version.
    pub(super) fn lay_out(&self) -> Result<(), StoreError> {
        directory(&self.staging())?;
        directory(&self.root.join(LAYERS))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn database(&self) -> PathBuf {
        self.root.join("images.redb")
    }

    fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// Where a layer is, if it is here.
    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        let (algorithm, hex) = (diff_id.algorithm().name(), diff_id.hex());
        let folder = self.root.join(LAYERS).join(algorithm).join(&hex[..2]);
        folder.join(format!("{hex}.{EXTENSION}"))
    }

    /// An empty file to make a layer in.
    pub(super) fn stage(&self) -> Result<Staged, StoreError> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let path = self.staging().join(number.to_string());
        let open =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = open.map_err(at("creating", &path))?;
        Ok(Staged::new(file, path))
    }

    /// Moves a finished file to its layer's place.
    pub(super) fn keep(&self, staged: Staged, diff_id: &Digest) -> Result<Measure, StoreError> {
        let path = self.layer(diff_id);
        let folder = path.parent().unwrap_or(&self.root);
        directory(folder)?;
        staged.move_to(&path)
    }

    /// The layer's file, if it is a file.
    pub(super) fn measure(&self, diff_id: &Digest) -> Result<Option<Measure>, StoreError> {
        let path = self.layer(diff_id);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then(|| (&metadata).into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("looking at", &path)(error)),
        }
    }

    /// Deletes a layer's file, which may be gone.
    pub(super) fn unlink(&self, diff_id: &Digest) -> Result<(), StoreError> {
        unlink(&self.layer(diff_id))
    }

    /// Opens a layer's file to read it.
    pub(super) fn open_layer(&self, diff_id: &Digest) -> Result<File, StoreError> {
        let path = self.layer(diff_id);
        File::open(&path).map_err(at("opening", &path))
    }

    /// Waits until a layer's content is on the disk.
    pub(super) fn sync(&self, diff_id: &Digest, file: &File) -> Result<Measure, StoreError> {
        let path = self.layer(diff_id);
        file.sync_data().map_err(at("syncing", &path))?;
        let metadata = file.metadata().map_err(at("looking at", &path))?;
        Ok((&metadata).into())
    }

    /// Waits until a layer's name is on the disk.
    pub(super) fn sync_name(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let path = self.layer(diff_id);
        let folders = path.ancestors().skip(1);
        for folder in folders.take_while(|folder| folder.starts_with(&self.root)) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(at("syncing", folder))?;
        }
        Ok(())
    }

    /// Deletes what an earlier process did not finish.
    pub(super) fn clear_staging(&self) -> Result<usize, StoreError> {
        let left = entries(&self.staging())?;
        left.iter().try_for_each(|path| unlink(path))?;
        Ok(left.len())
    }

    /// The layers that have a file. Files of other names are not ours.
    pub(super) fn layers(&self) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        for algorithm in entries(&self.root.join(LAYERS))? {
            for folder in entries(&algorithm)? {
                let files = entries(&folder)?;
                let named = files.iter().filter_map(|path| self.named(&algorithm, path));
                found.extend(named);
            }
        }
        Ok(found)
    }

    /// The layer that a file is of by its name and place.
    fn named(&self, algorithm: &Path, path: &Path) -> Option<Digest> {
        let algorithm = algorithm.file_name()?.to_str()?;
        let hex = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
        let diff_id: Digest = format!("{algorithm}:{hex}").parse().ok()?;
        (self.layer(&diff_id) == path).then_some(diff_id)
    }

    /// Sets room aside, if it is not. On a disk with less room it is what there is, and an error.
    pub(super) fn set_aside(&self) -> Result<(), StoreError> {
        let path = self.reserve();
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == RESERVE) {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(at("creating", &path))?;
        let mut outcome = Ok(());
        for size in std::iter::successors(Some(RESERVE), |size| Some(size / 2)).take(5) {
            match fallocate(&file, FallocateFlags::empty(), 0, size) {
                // A file system that can't set room aside has to do without.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => return outcome,
                Err(error) => outcome = Err(at("setting room aside in", &path)(error.into())),
            }
        }
        outcome
    }

    /// Gives the room that was set aside. False: there was none.
    pub(super) fn give_room(&self) -> Result<bool, StoreError> {
        let there = self.reserve().exists();
        unlink(&self.reserve())?;
        Ok(there)
    }
}

fn directory(path: &Path) -> Result<(), StoreError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(at("creating", path))
}

fn unlink(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("deleting", path)(error)),
        _ => Ok(()),
    }
}

/// What is in a directory: nothing, if it is none.
fn entries(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(at("listing", path)(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(at("listing", path))
}
