//! A container's root file system, and what it sees of other images.

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, mount};

use crate::Error;

/// Where a container's own files are, in its directory.
pub const UPPER: &str = "upper";

/// Kind of an overlay (statfs(2), `OVERLAYFS_SUPER_MAGIC`).
const OVERLAY: u64 = 0x794c_7630;

/// Mounts the overlay of `layers`, the lowest one first and at least one, at `root`, which is made.
/// What is written goes to `upper` in `directory`, which exists; `work` beside it is the kernel's.
///
/// # Errors
/// [`Error`] with the path.
pub fn mount_root(layers: &[PathBuf], directory: &Path, root: &Path) -> Result<(), Error> {
    let (upper, work) = (directory.join(UPPER), directory.join("work"));
    if !holds_overlays(directory) {
        let text = "what containers write is on an overlay itself, which the kernel refuses: put the \
                    daemon's `root` on another file system";
        return Err(Error::new("mounting an overlay with", &upper, io::Error::other(text)));
    }
    for path in [&upper, &work, root] {
        std::fs::create_dir_all(path).map_err(|error| Error::new("making", path, error))?;
    }
    // The root of the container has the upper directory's mode.
    let mode = Permissions::from_mode(0o755);
    std::fs::set_permissions(&upper, mode).map_err(|error| Error::new("making", &upper, error))?;
    let lower = layers.iter().rev().map(PathBuf::as_path);
    overlay(&opened(lower)?, &opened([&*upper, &*work])?, MountFlags::NODEV, root)
}

/// Whether directories here can be what containers write to: all file systems but an overlay
/// (kernel's `filesystems/overlayfs`, "Upper and Lower"). The nearest directory that is there counts.
pub fn holds_overlays(path: &Path) -> bool {
    let found = path.ancestors().find_map(|path| rustix::fs::statfs(path).ok());
    found.is_none_or(|found| u64::try_from(found.f_type) != Ok(OVERLAY))
}

/// Mounts `layers`, the lowest one first, at a directory, which is made. Nothing can be written to
/// it.
///
/// # Errors
/// [`Error`] with the path.
pub fn mount_view(layers: &[PathBuf], at: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(at).map_err(|error| Error::new("making", at, error))?;
    // An overlay has two directories at least. An image without layers is this one.
    if layers.is_empty() {
        return Ok(());
    }
    let lower = opened(layers.iter().rev().map(PathBuf::as_path).chain([at]))?;
    overlay(&lower, &[], MountFlags::NODEV | MountFlags::RDONLY, at)
}

fn opened<'path>(paths: impl IntoIterator<Item = &'path Path>) -> Result<Vec<OwnedFd>, Error> {
    let open =
        |path: &'path Path| opened_at(path).map_err(|error| Error::new("opening", path, error));
    paths.into_iter().map(open).collect()
}

fn overlay(
    lower: &[OwnedFd],
    upper: &[OwnedFd],
    flags: MountFlags,
    at: &Path,
) -> Result<(), Error> {
    let options = CString::new(options(lower, upper))
        .map_err(|error| Error::new("mounting", at, io::Error::other(error)))?;
    let mounted = mount("overlay", at, "overlay", flags, &*options);
    mounted.map_err(|error| Error::new("mounting an overlay at", at, error))
}

/// The directories by their descriptors: the options fit into a page with any paths and hundreds of
/// layers, and no path needs its commas and colons hidden.
fn options(lower: &[OwnedFd], upper: &[OwnedFd]) -> String {
    let mut text = String::from("lowerdir");
    for (layer, separator) in lower.iter().zip(std::iter::once('=').chain(std::iter::repeat(':'))) {
        // A string takes all that is written to it.
        let _ = write!(text, "{separator}/proc/self/fd/{}", layer.as_raw_fd());
    }
    for (name, directory) in ["upperdir", "workdir"].iter().zip(upper) {
        let _ = write!(text, ",{name}=/proc/self/fd/{}", directory.as_raw_fd());
    }
    text
}

pub(crate) fn opened_at(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
