//! The layer that some images have on top of their own, see [`image::parents`]. Each is a file, which
//! is made when the first container needs it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use api::error::chain;
use image::Digest;
use image::worker::Launcher;
use image::{implied, parents};

use crate::fault::{Fault, blocking};

/// The files, in a directory of their own; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Parents {
    directory: PathBuf,
    workers: Launcher,
}

impl Parents {
    /// Files in `directory`, which exists.
    pub(super) fn new(directory: PathBuf, workers: Launcher) -> Self {
        Self { directory, workers }
    }

    /// Where an image's file is, if it has one. No layer's file has such a name.
    fn path(&self, id: &Digest) -> PathBuf {
        self.directory.join(format!("parents-{}.erofs", id.hex()))
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
        let looked = layers.to_vec();
        let any = blocking("looking for implied directories", move || parents::any(&looked));
        if !any.await?.map_err(|error| failed(&error))? {
            return Ok(None);
        }
        let path = self.path(id);
        let new = Unfinished(path.with_extension(format!("{by}.new")));
        let written = |error| Fault::Internal(format!("writing {}: {error}", new.0.display()));
        let file = File::create_new(&new.0).map_err(written)?;
        if !implied::make(&self.workers, layers, file.as_fd())
            .await
            .map_err(|error| failed(&error))?
        {
            return Ok(None);
        }
        // Whole or not there, also after the node's power went.
        let (from, to) = (new.0.clone(), path.clone());
        let kept = move || file.sync_all().and_then(|()| std::fs::rename(from, to));
        blocking("keeping implied directories", kept).await?.map_err(written)?;
        Ok(Some(path))
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
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
            if let Err(error) = std::fs::remove_file(&path) {
                log::warn!("removing {}, which belongs to nobody: {error}", path.display());
            }
        }
    }
}

/// A file that is removed unless it has been moved.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It has been moved, or an image that is made anew begins with another.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::Internal(chain(error))
}
