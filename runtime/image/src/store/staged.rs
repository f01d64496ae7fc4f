//! A layer that is being made.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{StoreError, at};

/// What the kernel says about a layer's file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Measure {
    /// Its length in bytes.
    pub(super) size: u64,
    /// The bytes that it takes on the disk.
    pub(super) allocated: u64,
}

impl From<&fs::Metadata> for Measure {
    fn from(metadata: &fs::Metadata) -> Self {
        Self { size: metadata.len(), allocated: metadata.blocks() * 512 }
    }
}

/// A file that becomes a layer by [`super::Lease::keep`], and is deleted otherwise.
#[derive(Debug)]
pub struct Staged {
    file: File,
    path: PathBuf,
    moved: bool,
}

impl Staged {
    pub(super) fn new(file: File, path: PathBuf) -> Self {
        Self { file, path, moved: false }
    }

    /// The file to write: open for reading too, at its start.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Renames the file, which has all its content.
    pub(super) fn move_to(mut self, path: &Path) -> Result<Measure, StoreError> {
        let metadata = self.file.metadata().map_err(at("looking at", &self.path))?;
        fs::rename(&self.path, path).map_err(at("keeping", path))?;
        self.moved = true;
        Ok((&metadata).into())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.moved {
            // What is left is deleted when the store is opened.
            let _ = fs::remove_file(&self.path);
        }
    }
}
