//! Mounts that are nowhere yet: new filesystems, copies of other mounts, copies with mapped ids.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use syscalls::mount::{map_ids, set_attributes};
use syscalls::user_namespace;

use super::mount_options::{RDONLY, options_of, parse};
use super::user_namespace::map_file;
use crate::oci::Spec;

/// Says what was being done when something failed.
pub(super) fn doing<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
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

/// The copy of a bind mount's source that has mapped ids, if the mount asks for them.
pub(super) fn mapped_bind(spec: &Spec, mount: &Mount) -> Result<Option<OwnedFd>, String> {
    let options = options_of(mount);
    let own_uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let own_gids = mount.gid_mappings().as_deref().unwrap_or_default();
    let own_maps = !own_uids.is_empty() || !own_gids.is_empty();
    if !own_maps && options.idmap.is_none() {
        return Ok(None);
    }
    let (Some(recursive), Some(source)) = (options.bind, mount.source()) else {
        return Err("only bind mounts can have mapped ids".to_owned());
    };
    let (uids, gids) = if own_maps {
        (own_uids, own_gids)
    } else {
        (&*spec.linux.uid_mappings, &*spec.linux.gid_mappings)
    };
    let detached = clone_mount(source, recursive).map_err(doing("copy the source"))?;
    let userns = user_namespace::with_maps(&map_file(uids), &map_file(gids))
        .map_err(doing("make the user namespace of the mount's mappings"))?;
    map_ids(detached.as_fd(), options.idmap == Some(true), userns.as_fd())
        .map_err(doing("map ids"))?;
    Ok(Some(detached))
}

/// Moves a detached mount onto a place.
pub(super) fn attach(detached: &OwnedFd, place: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(detached, "", place, "", flags)
}

/// Mounts what is at a place once more.
pub(crate) fn bind_place(place: &OwnedFd, target: &str) -> rustix::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let detached = open_tree(place, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?;
    let target = rustix::fs::open(target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    attach(&detached, &target)
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
