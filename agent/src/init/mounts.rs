//! `mounts`: each is made detached, given its attributes, and only then moved to its place, so
//! that nobody ever sees it without them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use syscalls::mount::{MountAttributes, map_ids, set_attributes};
use syscalls::user_namespace;

use super::copy_up::copy_up;
use super::mount_options::{Options, RDONLY, parse};
use super::premade::Premade;
use super::rooted::{Create, Rooted, is_directory};
use super::user_namespace::map_file;
use crate::control::Failure;
use crate::oci::{Mount, NamespaceType, Spec};

type Result<T> = std::result::Result<T, String>;

/// Makes all mounts in order.
pub(super) fn mount_all(
    spec: &Spec,
    rootfs: &Rooted,
    (cgroup, premade): (&Path, &mut Premade),
) -> std::result::Result<(), Failure> {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let premade = premade.take(index);
        mount_one(spec, rootfs, (cgroup, premade), mount).map_err(|reason| {
            let source = mount.source.as_deref().unwrap_or(Path::new(&mount.kind));
            Failure::configuration(format_args!(
                "error mounting {source:?} to rootfs at {:?}: {reason}",
                mount.destination
            ))
        })?;
    }
    Ok(())
}

fn mount_one(
    spec: &Spec,
    rootfs: &Rooted,
    (cgroup, premade): (&Path, Option<OwnedFd>),
    mount: &Mount,
) -> Result<()> {
    let mut options = options_of(mount);
    if options.copy_up && mount.kind != "tmpfs" {
        return Err("tmpcopyup is for tmpfs only".to_owned());
    }
    // It becomes read-only when its devices are there; see `root::seal`.
    if mount.destination == Path::new("/dev") && options.bind.is_none() {
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
        .find_or_create(&mount.destination, create)
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

/// The options of a mount; one of type `bind` is one without saying so again.
pub(super) fn options_of(mount: &Mount) -> Options {
    let mut options = parse(&mount.options);
    if mount.kind == "bind" {
        options.bind = options.bind.or(Some(false));
    }
    options
}

fn doing<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Moves a detached mount onto a place.
pub(super) fn attach(detached: &OwnedFd, place: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(detached, "", place, "", flags)
}

/// A copy of the mount at `source`, with those below it if `recursive`.
pub(super) fn clone_mount(source: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if !source.starts_with(agent_api::STATE_DIR) {
        return open_tree(CWD, source, flags);
    }
    // The attack: a container that has put a link in a volume whose part another one is given.
    let place = OFlags::PATH | OFlags::CLOEXEC;
    let place = openat2(CWD, source, place, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    open_tree(&place, "", flags | OpenTreeFlags::AT_EMPTY_PATH)
}

fn detached(spec: &Spec, cgroup: &Path, mount: &Mount, options: &Options) -> Result<OwnedFd> {
    if let Some(recursive) = options.bind {
        let source = mount.source.as_deref().ok_or("a bind mount needs a source")?;
        if !source.is_absolute() {
            return Err("the source of a bind mount must be absolute".to_owned());
        }
        return clone_mount(source, recursive).map_err(|error| error.to_string());
    }
    match mount.kind.as_str() {
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
            filesystem(kind, mount.source.as_deref(), &data).map_err(|error| error.to_string())
        }
    }
}

fn is_virtual(kind: &str) -> bool {
    matches!(kind, "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "ramfs")
}

/// A new mount of a filesystem.
pub(super) fn filesystem(
    kind: &str,
    source: Option<&Path>,
    data: &[(String, Option<String>)],
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(source) = source.and_then(Path::to_str) {
        fsconfig_set_string(context.as_fd(), "source", source)?;
    }
    for (key, value) in data {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(context.as_fd(), key.as_str())?,
        }
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Mounts a disk of the guest itself, with options as in a configuration.
pub(crate) fn mount_detached(
    kind: &str,
    device: &str,
    options: &[String],
    target: &str,
) -> std::io::Result<()> {
    let options = parse(options);
    let mut data = options.data.clone();
    if options.own.set.contains(RDONLY) {
        data.push(("ro".to_owned(), None));
    }
    let detached = filesystem(kind, Some(Path::new(device)), &data)?;
    set_attributes(detached.as_fd(), false, &options.own)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = rustix::fs::open(target, flags, Mode::empty())?;
    Ok(attach(&detached, &place)?)
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

/// The copy of a bind mount's source that has mapped ids, if the mount asks for them.
pub(super) fn mapped_bind(spec: &Spec, mount: &Mount) -> Result<Option<OwnedFd>> {
    let options = options_of(mount);
    let own_maps = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if !own_maps && options.idmap.is_none() {
        return Ok(None);
    }
    let (Some(recursive), Some(source)) = (options.bind, &mount.source) else {
        return Err("only bind mounts can have mapped ids".to_owned());
    };
    let (uids, gids) = if own_maps {
        (&mount.uid_mappings, &mount.gid_mappings)
    } else {
        (&spec.linux.uid_mappings, &spec.linux.gid_mappings)
    };
    let detached = clone_mount(source, recursive).map_err(doing("copy the source"))?;
    let userns = user_namespace::with_maps(&map_file(uids), &map_file(gids))
        .map_err(doing("make the user namespace of the mount's mappings"))?;
    map_ids(detached.as_fd(), options.idmap == Some(true), userns.as_fd())
        .map_err(doing("map ids"))?;
    Ok(Some(detached))
}
