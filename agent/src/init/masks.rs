//! `linux.maskedPaths` and `linux.readonlyPaths`, inside the container's root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::mount_options::{NODEV, NOEXEC, NOSUID, RDONLY};
use super::mounts::{attach, clone_mount, filesystem};
use super::rooted::is_directory;
use crate::control::Failure;
use crate::oci::Linux;
use crate::sys::mount::{MountAttributes, set_attributes};

/// Hides and protects; paths that do not exist need neither.
pub(super) fn apply(linux: &Linux) -> Result<(), Failure> {
    for path in &linux.readonly_paths {
        for_existing(path, protect)
            .map_err(|error| Failure::guest(format_args!("protect {path:?}: {error}")))?;
    }
    for path in &linux.masked_paths {
        for_existing(path, mask)
            .map_err(|error| Failure::guest(format_args!("mask {path:?}: {error}")))?;
    }
    Ok(())
}

fn for_existing(
    path: &Path,
    act: fn(&Path, &OwnedFd) -> std::io::Result<()>,
) -> std::io::Result<()> {
    match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(place) => act(path, &place),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn protect(path: &Path, place: &OwnedFd) -> std::io::Result<()> {
    let copy = clone_mount(path, true)?;
    let read_only = MountAttributes { set: RDONLY, ..MountAttributes::default() };
    set_attributes(copy.as_fd(), false, &read_only)?;
    Ok(attach(&copy, place)?)
}

fn mask(_: &Path, place: &OwnedFd) -> std::io::Result<()> {
    if !is_directory(place)? {
        return Ok(attach(&clone_mount(Path::new("/dev/null"), false)?, place)?);
    }
    let empty = filesystem("tmpfs", None, &[("nr_inodes".to_owned(), Some("2".to_owned()))])?;
    let set = RDONLY | NOSUID | NODEV | NOEXEC;
    set_attributes(empty.as_fd(), false, &MountAttributes { set, ..MountAttributes::default() })?;
    Ok(attach(&empty, place)?)
}
