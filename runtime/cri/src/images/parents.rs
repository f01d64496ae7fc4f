//! The layer that some images have on top of their own, see [`image::parents`]. Each is a file, which
//! is made when the first container needs it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use api::error::chain;
use image::Digest;
use image::parents::{self, ParentsError};

use crate::fault::{Fault, blocking};

/// The files, in a directory of their own; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Parents(PathBuf);

impl Parents {
    /// Files in `directory`, which exists.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Where an image's file is, if it has one. No layer's file has such a name.
    fn path(&self, id: &Digest) -> PathBuf {
        self.0.join(format!("parents-{}.erofs", id.hex()))
    }

    /// The file of an image that has one already.
    pub(super) fn get(&self, id: &Digest) -> Option<PathBuf> {
        Some(self.path(id)).filter(|path| path.exists())
    }

    /// The file of an image with these layers, if they need one. It is made by `by`, whose name
    /// nobody else has.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the layer or the path.
    pub(super) async fn make(
        &self,
        id: &Digest,
        layers: &[PathBuf],
        by: &str,
    ) -> Result<Option<PathBuf>, Fault> {
        if let Some(made) = self.get(id) {
            return Ok(Some(made));
        }
        let (path, layers) = (self.path(id), layers.to_vec());
        let new = path.with_extension(format!("{by}.new"));
        let made = blocking("looking for implied directories", move || {
            let made = make(&layers, &new, &path).map(|has| has.then_some(path));
            made.inspect_err(|_| drop(std::fs::remove_file(&new)))
        });
        made.await?
    }

    /// The image is gone.
    pub(super) fn forget(&self, id: &Digest) {
        match std::fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("removing {}: {error}", self.path(id).display());
            }
            _ => {}
        }
    }

    /// Removes all files but those of these images.
    pub(super) fn keep<'a>(&self, images: impl Iterator<Item = &'a Digest>) {
        let kept: BTreeSet<_> = images.map(|id| self.path(id)).collect();
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
            if let Err(error) = std::fs::remove_file(&path) {
                log::warn!("removing {}, which belongs to nobody: {error}", path.display());
            }
        }
    }
}

/// Whether the layers need one, which is at `path` then.
fn make(layers: &[PathBuf], new: &Path, path: &Path) -> Result<bool, Fault> {
    let failed = |error: &ParentsError| Fault::Internal(chain(error));
    let parents = parents::find(layers).map_err(|error| failed(&error))?;
    if parents.is_empty() {
        return Ok(false);
    }
    let written = |error: io::Error| Fault::Internal(format!("writing {}: {error}", new.display()));
    let file = File::create_new(new).map_err(written)?;
    parents::write(&parents, &file).map_err(|error| failed(&error))?;
    // Whole or not there, also after the node's power went.
    file.sync_all().and_then(|()| std::fs::rename(new, path)).map_err(written)?;
    Ok(true)
}
