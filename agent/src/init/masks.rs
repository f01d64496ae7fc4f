//! `linux.maskedPaths` and `linux.readonlyPaths`, inside the container's root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use syscalls::mount::{MountAttributes, set_attributes};

use super::detached::{attach, clone_mount, filesystem};
use super::mount_options::{NODEV, NOEXEC, NOSUID, RDONLY};
use super::rooted::is_directory;
use crate::control::Failure;
use crate::oci::Linux;

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
    set_attributes(copy.as_fd(), false, &MountAttributes::set(RDONLY))?;
    Ok(attach(&copy, place)?)
}

fn mask(_: &Path, place: &OwnedFd) -> std::io::Result<()> {
    if !is_directory(place)? {
        return Ok(attach(&null_device(Path::new("/dev/null"))?, place)?);
    }
    let empty = filesystem("tmpfs", None, &[("nr_inodes".to_owned(), Some("2".to_owned()))])?;
    let all = MountAttributes::set(RDONLY | NOSUID | NODEV | NOEXEC);
    set_attributes(empty.as_fd(), false, &all)?;
    Ok(attach(&empty, place)?)
}

/// A copy of the mount of the null device. The attack: an image with something else at its place,
/// which would show what is to be hidden, or more (runc's CVE-2025-31133).
fn null_device(path: &Path) -> std::io::Result<OwnedFd> {
    let device =
        rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&device)?;
    let character = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    if !character || found.st_rdev != makedev(1, 3) {
        return Err(std::io::Error::other(format!("{} is not the null device", path.display())));
    }
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(&device, "", clone | OpenTreeFlags::AT_EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    use super::null_device;
    use std::path::Path;

    #[test]
    fn only_the_null_device_hides() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink("/dev/null", path("link")).unwrap();
        for bad in [path("file"), path("link"), "/dev/zero".into()] {
            assert!(null_device(&bad).is_err(), "{bad:?}");
        }
        // Tests run as root, which may copy mounts.
        assert!(null_device(Path::new("/dev/null")).is_ok());
    }
}
