//! A container's root file system.

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
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
    for path in [&upper, &work, root] {
        std::fs::create_dir_all(path).map_err(|error| Error::new("making", path, error))?;
    }
    // The root of the container has the upper directory's mode.
    let mode = Permissions::from_mode(0o755);
    std::fs::set_permissions(&upper, mode).map_err(|error| Error::new("making", &upper, error))?;
    let mut opened = Vec::new();
    for path in layers.iter().rev().map(PathBuf::as_path).chain([&*upper, &*work]) {
        opened.push(opened_at(path).map_err(|error| Error::new("opening", path, error))?);
    }
    let options = options(&opened[..layers.len()], &opened[layers.len()..]);
    let options = CString::new(options)
        .map_err(|error| Error::new("mounting", root, io::Error::other(error)))?;
    let mounted = mount("overlay", root, "overlay", MountFlags::NODEV, &*options);
    mounted.map_err(|error| match holds_overlays(directory) {
        true => Error::new("mounting an overlay at", root, error),
        false => {
            let text = "what containers write is on an overlay itself, which the kernel refuses: put \
                        the daemon's `root` on another file system";
            Error::new("mounting an overlay with", &upper, io::Error::other(text))
        }
    })
}

/// Whether directories here can be what containers write to: all file systems but an overlay
/// (kernel's `filesystems/overlayfs`, "Upper and Lower"). The nearest directory that is there counts.
pub fn holds_overlays(path: &Path) -> bool {
    let found = path.ancestors().find_map(|path| rustix::fs::statfs(path).ok());
    found.is_none_or(|found| u64::try_from(found.f_type) != Ok(OVERLAY))
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

fn opened_at(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Reads a file below `root`, whose tree is a stranger's: links lead nowhere outside, and nothing
/// but a file is opened. None if it is missing.
///
/// # Errors
/// What the kernel answered; that it is no file, or has more than `most` bytes.
pub fn read_below(root: &Path, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let root = opened_at(root)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let bound = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // What it is shows before it is opened: the opening of a device can do something.
    let found = match openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), bound) {
        Ok(found) => found,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let facts = rustix::fs::fstat(&found)?;
    if rustix::fs::FileType::from_raw_mode(facts.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let name = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = File::from(rustix::fs::openat(CWD, name, flags, Mode::empty())?);
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("over {most} bytes")));
    }
    Ok(Some(text))
}
