//! Layers that are mounted, each in a directory of its own that is named as its file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use syscalls::loop_device::LoopDevice;

use crate::{Error, unmount};

/// Type of the file systems.
const EROFS: &str = "erofs";

/// A directory that has nothing: the lowest layer of an image without any.
const EMPTY: &str = "empty";

/// The layers that are mounted below a directory.
#[derive(Debug, Clone)]
pub struct Layers {
    directory: PathBuf,
}

impl Layers {
    /// Layers below `directory`, which exists.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Mounts a layer's file, unless it is mounted; where.
    ///
    /// # Errors
    /// [`Error`] with the path.
    pub fn mount(&self, file: &Path) -> Result<PathBuf, Error> {
        let name = name(file).map_err(|error| Error::new("naming layer", file, error))?;
        let at = self.directory.join(name);
        make(&at).map_err(|error| Error::new("making", &at, error))?;
        if !self.is_mounted(&at)? {
            erofs(file, &at).map_err(|error| Error::new("mounting layer", file, error))?;
        }
        Ok(at)
    }

    /// A directory that stands for the layers of an image that has none.
    ///
    /// # Errors
    /// [`Error`] with the path.
    pub fn empty(&self) -> Result<PathBuf, Error> {
        let at = self.directory.join(EMPTY);
        make(&at).map_err(|error| Error::new("making", &at, error))?;
        Ok(at)
    }

    /// Unmounts every layer but those of these files. What overlays use lives on with them.
    ///
    /// # Errors
    /// The first [`Error`]; all others are tried, too.
    pub fn keep(&self, files: &[PathBuf]) -> Result<(), Error> {
        let kept: BTreeSet<_> = files.iter().filter_map(|file| name(file).ok()).collect();
        let read = std::fs::read_dir(&self.directory);
        let entries = read.map_err(|error| Error::new("reading", &self.directory, error))?;
        let mut first = None;
        for entry in entries.flatten().filter(|entry| !kept.contains(&entry.file_name())) {
            if let Err(error) = forget(&entry.path()) {
                log::debug!("{error}");
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn is_mounted(&self, at: &Path) -> Result<bool, Error> {
        let device = |path: &Path| {
            let facts = std::fs::symlink_metadata(path);
            facts.map(|facts| facts.dev()).map_err(|error| Error::new("looking at", path, error))
        };
        Ok(device(at)? != device(&self.directory)?)
    }
}

/// A layer's name: its file's without the ending, which is the digest of its content.
fn name(file: &Path) -> io::Result<OsString> {
    file.file_stem().map(OsString::from).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn make(at: &Path) -> io::Result<()> {
    match std::fs::create_dir(at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn forget(at: &Path) -> Result<(), Error> {
    unmount(at)?;
    std::fs::remove_dir(at).map_err(|error| Error::new("removing", at, error))
}

/// Mounts an EROFS file. Linux 6.12 and later take the file itself. Others need a device. What is
/// read goes past the file's own page cache where that can be, so that it is kept once.
fn erofs(file: &Path, at: &Path) -> io::Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NODEV;
    for options in [c"directio", c""] {
        match mount(file, at, EROFS, flags, options) {
            Ok(()) => return Ok(()),
            // The option is newer than such mounts, and not every file system has it.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => {}
            // A kernel that wants a device.
            Err(rustix::io::Errno::NOTBLK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    by_device(file, at)
}

pub(crate) fn by_device(file: &Path, at: &Path) -> io::Result<()> {
    let device = LoopDevice::read_only(&File::open(file)?)?;
    Ok(mount(device.path(), at, EROFS, MountFlags::RDONLY | MountFlags::NODEV, c"")?)
}
