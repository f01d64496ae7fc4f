//! Files that a template depends on, told from later ones of the same name without reading them.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use host::Config;
use serde::{Deserialize, Serialize};

/// Which file it is. It changes whenever the file is replaced or written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its path, as the operator says it.
    pub path: String,
    device: u64,
    inode: u64,
    /// Its size in bytes.
    size: u64,
    /// When it was written to last: seconds and nanoseconds.
    modified: (i64, i64),
    /// When that or its place last changed, which nobody can choose.
    changed: (i64, i64),
}

impl Identity {
    /// That of the file at `path`, which may be a link.
    ///
    /// # Errors
    /// What the filesystem answered; that it is no file: what a device holds can't be told.
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::from_metadata(path, &std::fs::metadata(path)?)
    }

    /// That of a file which was opened at `path`.
    ///
    /// # Errors
    /// As of [`Self::of`].
    pub fn from_metadata(path: &Path, file: &Metadata) -> io::Result<Self> {
        if !file.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self {
            path: path.to_string_lossy().into_owned(),
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }

    /// Whether it is still the file at its path.
    pub fn holds(&self) -> bool {
        Self::of(Path::new(&self.path)).is_ok_and(|now| now == *self)
    }
}

/// The files that a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// The guest's kernel.
    pub kernel: Identity,
    /// The guest's root image.
    pub rootfs: Identity,
    /// The VMM.
    pub vmm: Identity,
}

impl Inputs {
    /// Those that the operator names, as they are now.
    ///
    /// # Errors
    /// What the filesystem answered, with the file's name.
    pub fn of(config: &Config) -> io::Result<Self> {
        let identity = |path: &Path| {
            Identity::of(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        };
        Ok(Self {
            kernel: identity(&config.kernel)?,
            rootfs: identity(&config.rootfs)?,
            vmm: identity(&config.vmm)?,
        })
    }

    /// Whether all are still the files at their paths.
    pub fn hold(&self) -> bool {
        [&self.kernel, &self.rootfs, &self.vmm].iter().all(|input| input.holds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_is_written_to_or_replaced_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        std::fs::write(&path, "one").unwrap();
        let first = Identity::of(&path).unwrap();
        assert!(first.holds());
        std::fs::write(&path, "two").unwrap();
        assert!(!first.holds(), "written to");
        let second = Identity::of(&path).unwrap();
        let other = dir.path().join("other");
        std::fs::copy(&path, &other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!second.holds(), "replaced by the same");
        std::fs::remove_file(&path).unwrap();
        assert!(!second.holds(), "gone");
        assert!(Identity::of(Path::new("/dev/null")).is_err());
        assert!(Identity::of(dir.path()).is_err());
    }
}
