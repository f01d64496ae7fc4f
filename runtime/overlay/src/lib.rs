//! Root file systems of containers that run in the node's own kernel, and images that they have as
//! volumes. Each layer's EROFS file is mounted once. Each container has an overlay of them.
//!
//! ```text
//!   images/…/A.erofs ──► layers/A ──┐
//!   images/…/B.erofs ──► layers/B ──┼── overlay ──► bundles/ID/rootfs
//!   containers/ID/upper ────────────┘
//! ```
//!
//! Nothing is kept in memory: what is mounted is asked of the kernel, and who needs a layer is the
//! caller's to know. All calls can be repeated. They block, so they want a thread that may.
//!
//! The files were written by our own writer of EROFS, never by a registry: the kernel reads no
//! stranger's metadata. The tree of an image is a stranger's. A path in it is looked up with the
//! root as its bound ([`read_below`], [`directory_below`]).
#![forbid(unsafe_code)]

mod below;
mod layers;
mod root;

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

pub use below::{directory_below, read_below};
pub use layers::Layers;
pub use root::{UPPER, holds_overlays, mount_root, mount_view};

/// Most mounts over each other that an unmounting takes away.
const LAYERS: usize = 16;

/// Why a mount could not be made, looked at or taken away.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {source}")]
pub struct Error {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Error {
    fn new(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { doing, path: path.into(), source: source.into() }
    }
}

/// Unmounts all that is mounted at `path`, if anything is. Who still uses it keeps it.
///
/// # Errors
/// [`Error`] with the path. Nothing behind it must be removed then.
pub fn unmount(path: &Path) -> Result<(), Error> {
    for _ in 0..LAYERS {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there, or there is nothing.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(Error::new("unmounting", path, error)),
        }
    }
    Err(Error::new("unmounting", path, io::Error::other("too much is mounted there")))
}

#[cfg(test)]
mod tests;
