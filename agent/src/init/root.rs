//! `root` and `linux.rootfsPropagation`: the container's root directory becomes the root of its
//! mount namespace.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change, unmount,
};
use syscalls::mount::{MountAttributes, set_attributes};

use super::failure::Context;
use super::mount_options::{RDONLY, options_of, parse};
use super::rooted::Rooted;
use crate::control::Failure;
use crate::oci::Spec;

/// Makes the root a mount of its own in a namespace whose mounts reach nobody else.
pub(super) fn prepare(spec: &Spec) -> Result<(), Failure> {
    // What is created from here on gets exactly the stated modes.
    rustix::process::umask(Mode::empty());
    let path = &spec.root.path;
    if !path.is_absolute() {
        return Err(Failure::configuration(format_args!("root.path {path:?}: not absolute")));
    }
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("detach the mount namespace")?;
    mount_bind_recursive(path, path)
        .map_err(|error| Failure::configuration(format_args!("root.path {path:?}: {error}")))
}

/// Opens the root, after [`prepare`].
pub(super) fn open(path: &Path) -> Result<Rooted, Failure> {
    Rooted::open(path).context("open the root")
}

/// Makes the prepared root the root directory; what was there is gone.
pub(super) fn enter(spec: &Spec) -> Result<(), Failure> {
    let directory = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let old = rustix::fs::open("/", directory, Mode::empty()).context("open the old root")?;
    rustix::process::chdir(&spec.root.path).context("enter the root")?;
    // Stacks the old root on the new one: no directory for it is needed (pivot_root(2), notes).
    rustix::process::pivot_root(".", ".").context("pivot_root")?;
    rustix::process::fchdir(&old).context("return to the old root")?;
    mount_change(".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("detach the old root")?;
    unmount(".", UnmountFlags::DETACH).context("unmount the old root")?;
    rustix::process::chdir("/").context("enter the new root")?;
    set_propagation(&spec.linux.rootfs_propagation)
}

fn set_propagation(word: &str) -> Result<(), Failure> {
    if word.is_empty() {
        return Ok(());
    }
    let Some((flag, recursive)) = parse(&[word.to_owned()]).propagation.first().copied() else {
        return Err(Failure::configuration(format_args!("rootfsPropagation {word:?}")));
    };
    set_on("/", recursive, &MountAttributes::propagation(flag))
}

/// Makes read-only what shall be: the root, and /dev when it is filled. The directory in which the
/// process starts is made before: nobody could later, and images count on it.
pub(super) fn seal(spec: &Spec, cwd: &Path) -> Result<(), Failure> {
    // Entering it says what is wrong with it. No link leads out of the root on the way.
    let _made_or_not = open(Path::new("/"))?.make_directory(cwd);
    let read_only = MountAttributes::set(RDONLY);
    for mount in &spec.mounts {
        let options = options_of(mount);
        let dev = mount.destination() == Path::new("/dev") && options.bind.is_none();
        if dev && options.own.set.contains(RDONLY) {
            set_on("/dev", false, &read_only)?;
        }
    }
    if spec.root.readonly { set_on("/", false, &read_only) } else { Ok(()) }
}

fn set_on(path: &str, recursive: bool, attributes: &MountAttributes) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = rustix::fs::open(path, flags, Mode::empty()).context("open a mount")?;
    set_attributes(place.as_fd(), recursive, attributes)
        .with_context(|| format!("change the mount at {path}"))
}
