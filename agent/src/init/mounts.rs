//! `mounts`: each is made detached, given its attributes, and only then moved to its place, so
//! that nobody ever sees it without them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Mount;
use rustix::mount::MountAttrFlags;
use syscalls::mount::{MountAttributes, set_attributes};

use super::copy_up::copy_up;
use super::detached::{attach, clone_mount, doing, filesystem};
use super::mount_options::{Options, RDONLY, options_of};
use super::premade::Premade;
use super::rooted::{Create, Rooted, is_directory};
use crate::control::Failure;
use crate::oci::{NamespaceType, Spec, kind_of};

type Result<T> = std::result::Result<T, String>;

/// Makes all mounts in order.
pub(super) fn mount_all(
    spec: &Spec,
    rootfs: &Rooted,
    cgroup: &Path,
    premade: &mut Premade,
) -> std::result::Result<(), Failure> {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let premade = premade.take(index);
        mount_one(spec, rootfs, cgroup, premade, mount).map_err(|reason| {
            let source = mount.source().as_deref().unwrap_or(Path::new(kind_of(mount)));
            Failure::configuration(format_args!(
                "error mounting {source:?} to rootfs at {:?}: {reason}",
                mount.destination()
            ))
        })?;
    }
    Ok(())
}

fn mount_one(
    spec: &Spec,
    rootfs: &Rooted,
    cgroup: &Path,
    premade: Option<OwnedFd>,
    mount: &Mount,
) -> Result<()> {
    let mut options = options_of(mount);
    if options.copy_up && kind_of(mount) != "tmpfs" {
        return Err("tmpcopyup is for tmpfs only".to_owned());
    }
    // It becomes read-only when its devices are there; see `root::seal`.
    if mount.destination() == Path::new("/dev") && options.bind.is_none() {
        options.own.set &= !RDONLY;
    }
    let detached = match premade {
        Some(premade) => premade,
        None => detached(spec, cgroup, mount, &options)?,
    };
    let create = if is_directory(&detached).map_err(doing("look at the source"))? {
        Create::Directory
    } else {
        Create::File
    };
    let place = rootfs
        .find_or_create(mount.destination(), create)
        .map_err(doing("create the mount point"))?;
    if options.copy_up {
        let mode = options.data.iter().any(|(key, _)| key == "mode");
        copy_up(&place, &detached, mode).map_err(doing("copy what the mount hides"))?;
    }
    set_all(spec, &detached, &options)?;
    attach(&detached, &place).map_err(doing("attach"))?;
    for (propagation, recursive) in options.propagation {
        let change = MountAttributes::propagation(propagation);
        set_attributes(detached.as_fd(), recursive, &change).map_err(doing("set propagation"))?;
    }
    Ok(())
}

fn detached(spec: &Spec, cgroup: &Path, mount: &Mount, options: &Options) -> Result<OwnedFd> {
    if let Some(recursive) = options.bind {
        let source = mount.source().as_deref().ok_or("a bind mount needs a source")?;
        if !source.is_absolute() {
            return Err("the source of a bind mount must be absolute".to_owned());
        }
        return clone_mount(source, recursive).map_err(|error| error.to_string());
    }
    match kind_of(mount) {
        "cgroup" | "cgroup2" => {
            // A shared cgroup namespace would show the cgroups of everybody.
            if spec.linux.namespace(NamespaceType::Cgroup).is_none() {
                return clone_mount(cgroup, false).map_err(doing("bind the cgroup"));
            }
            filesystem("cgroup2", None, &[]).map_err(doing("cgroup2"))
        }
        "sysfs" => match filesystem("sysfs", None, &options.data) {
            // The owner of a user namespace may mount sysfs only for its own network.
            Err(_) if spec.linux.namespace(NamespaceType::User).is_some() => {
                clone_mount(Path::new("/sys"), true).map_err(doing("bind /sys"))
            }
            other => other.map_err(doing("sysfs")),
        },
        kind => {
            let mut data = options.data.clone();
            if options.own.set.contains(RDONLY) && !is_virtual(kind) {
                // A disk that must not even be replayed from its journal.
                data.push(("ro".to_owned(), None));
            }
            filesystem(kind, mount.source().as_deref(), &data).map_err(|error| error.to_string())
        }
    }
}

fn is_virtual(kind: &str) -> bool {
    matches!(kind, "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "ramfs")
}

fn set_all(spec: &Spec, detached: &OwnedFd, options: &Options) -> Result<()> {
    for (attributes, recursive) in [(options.recursive, true), (options.own, false)] {
        if attributes == MountAttributes::KEEP {
            continue;
        }
        let mut result = set_attributes(detached.as_fd(), recursive, &attributes);
        // Inside a user namespace flags of the source are locked; it asked for less anyway.
        if result.is_err() && spec.linux.namespace(NamespaceType::User).is_some() {
            let only_set = MountAttributes { clear: MountAttrFlags::empty(), ..attributes };
            result = set_attributes(detached.as_fd(), recursive, &only_set);
        }
        result.map_err(doing("set attributes"))?;
    }
    Ok(())
}
