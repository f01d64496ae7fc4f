//! Mounts of a container: what every container has, the pod's files, the image's volumes, and what
//! the interface asks for. The last come before all else at their place.

mod bind;

use std::path::{Component, Path, PathBuf};

use oci_spec::image::Config;
use oci_spec::runtime::{LinuxIdMapping, Mount};
use protocol::cri::{ContainerConfig, IdMapping, Mount as Asked};

use super::SpecError;
use super::input::{ContainerInput, PodPaths, Runtime};
use super::process;

/// What is mounted in every container: place, type, source and options.
const EVERYWHERE: [(&str, &str, &str, &[&str]); 6] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
];

/// What a container may do with what every container has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// Whether it may write to `/sys` and to cgroups.
    pub(super) privileged: bool,
    /// Whether its root file system is read-only.
    pub(super) read_only_root: bool,
    /// Whether it is in a user namespace, but on the network of the node.
    pub(super) foreign_network: bool,
    /// Whether its IPC is the node's.
    pub(super) node_ipc: bool,
}

/// The mounts of a container in their order, and how its root takes part in those of the host.
///
/// # Errors
/// [`SpecError`] names the place of the mount that can't be had.
pub(super) fn of_container(
    input: &ContainerInput<'_>,
    image: &Config,
    access: Access,
    users: Option<(&[IdMapping], &[IdMapping])>,
) -> Result<(Vec<Mount>, Option<&'static str>), SpecError> {
    let own = &input.container.mounts;
    let mut asked: Vec<_> = own.to_vec();
    let mut mounts = everywhere(access.privileged, access.foreign_network);
    mounts.push(cgroups(input, access));
    let mut extra = pod_files(input.paths, access, users);
    let mut in_memory = Vec::new();
    for destination in volumes_of_image(image, input.container) {
        match input.found.volumes.get(&destination) {
            Some(path) => extra.push(extra_mount(&destination, path, false, users)),
            // The root file system of a container ends with it, as such a volume does.
            None if !access.read_only_root => {}
            None => in_memory.push(mount(&destination, "tmpfs", "tmpfs", &["rw", "tmpcopyup"])),
        }
    }
    extra.retain(|extra| !is_among(own, &extra.container_path));
    asked.extend(extra);
    // Those above come first, lest they hide those below.
    asked.sort_by_key(|mount| depth(Path::new(&mount.container_path)));
    mounts.extend(in_memory);
    let over_dev = is_among(&asked, "/dev");
    mounts.retain(|mount| {
        let place = mount.destination().to_string_lossy();
        !(is_among(&asked, &place) || over_dev && place.starts_with("/dev/"))
    });
    let mut root = None;
    for asked in &asked {
        let (mount, propagation) = bind::mount(asked, input)?;
        root = root.max(propagation);
        mounts.push(mount);
    }
    Ok((mounts, root.map(bind::Follows::word)))
}

/// The mounts of a sandbox container.
pub(super) fn of_sandbox(paths: &PodPaths, access: Access) -> Vec<Mount> {
    let mut mounts = everywhere(false, access.foreign_network);
    let node_shm = access.node_ipc.then(|| PathBuf::from("/dev/shm"));
    let shm = node_shm.or_else(|| paths.shm.clone());
    if shm.is_some() {
        mounts.retain(|mount| mount.destination() != Path::new("/dev/shm"));
    }
    // Without the flags a remount in a user namespace fails.
    let options = ["rbind", "ro", "nosuid", "nodev", "noexec"];
    for (place, path) in [("/dev/shm", shm), ("/etc/resolv.conf", paths.resolv_conf.clone())] {
        mounts.extend(path.map(|path| mount(place, "bind", path, &options)));
    }
    mounts
}

/// The volumes that an image has and the request does not. The caller may make a directory for
/// each of them; without one it is a part of the root file system.
pub fn volumes_of_image(image: &Config, container: &ContainerConfig) -> Vec<String> {
    let rooted = |volume: &String| absolute(&format!("/{volume}"));
    let volumes = process::list(image.volumes()).iter().filter_map(rooted);
    let volumes = volumes.filter(|path| path != Path::new("/"));
    let mut volumes: Vec<_> = volumes.filter_map(|path| path.to_str().map(str::to_owned)).collect();
    volumes.retain(|path| !is_among(&container.mounts, path));
    volumes.sort();
    volumes.dedup();
    volumes
}

/// A path without `.`, `..` and doubled slashes; none for one that does not start at the root or
/// has a NUL.
pub(super) fn absolute(path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

/// How many names a path has.
fn depth(path: &Path) -> usize {
    absolute(&path.to_string_lossy()).map_or(0, |path| path.components().count())
}

/// Whether one of the mounts is at this place.
fn is_among(mounts: &[Asked], place: &str) -> bool {
    let place = absolute(place);
    place.is_some() && mounts.iter().any(|mount| absolute(&mount.container_path) == place)
}

fn everywhere(privileged: bool, foreign_network: bool) -> Vec<Mount> {
    let make = |(place, kind, source, options): &(&str, &str, &str, &[&str])| {
        if *place != "/sys" {
            return mount(place, kind, source, options);
        }
        if foreign_network {
            // The kernel mounts sysfs for who owns the network namespace only.
            return mount("/sys", "bind", "/sys", &["rbind", "rro", "nosuid", "nodev", "noexec"]);
        }
        let access = if privileged { "rw" } else { "ro" };
        mount(place, kind, source, &["nosuid", "noexec", "nodev", access])
    };
    EVERYWHERE.iter().map(make).collect()
}

fn cgroups(input: &ContainerInput<'_>, access: Access) -> Mount {
    let writable = access.privileged || input.handler.cgroup_writable;
    let mut options = vec!["nosuid", "noexec", "nodev", "relatime"];
    options.push(if writable { "rw" } else { "ro" });
    // A privileged container has the node's own mount, which takes on what is said here.
    if access.privileged && input.handler.runtime == Runtime::Runc {
        options.extend(input.node.cgroup_options.iter().map(String::as_str));
    }
    mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)
}

fn pod_files(
    paths: &PodPaths,
    access: Access,
    users: Option<(&[IdMapping], &[IdMapping])>,
) -> Vec<Asked> {
    let node_shm = (access.node_ipc && paths.shm.is_some()).then(|| PathBuf::from("/dev/shm"));
    let shm = node_shm.or_else(|| paths.shm.clone());
    let read_only = access.read_only_root;
    let files = [
        ("/etc/hostname", paths.hostname.clone(), read_only, users),
        ("/etc/hosts", paths.hosts.clone(), read_only, users),
        ("/etc/resolv.conf", paths.resolv_conf.clone(), read_only, users),
        // Everybody may write there, so owners need no maps.
        ("/dev/shm", shm, false, None),
    ];
    let there = files.into_iter().filter_map(|(place, path, read_only, users)| {
        path.map(|path| extra_mount(place, &path, read_only, users))
    });
    there.collect()
}

fn extra_mount(
    place: &str,
    path: &Path,
    readonly: bool,
    users: Option<(&[IdMapping], &[IdMapping])>,
) -> Asked {
    let (uids, gids) = users.unwrap_or_default();
    Asked {
        container_path: place.to_owned(),
        host_path: path.to_string_lossy().into_owned(),
        readonly,
        uid_mappings: uids.to_vec(),
        gid_mappings: gids.to_vec(),
        ..Asked::default()
    }
}

fn mount(place: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    mount.set_destination(place.into()).set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.into())).set_options(Some(options));
    mount
}

/// Maps of a mount; none where there are none.
fn maps(ranges: &[IdMapping]) -> Option<Vec<LinuxIdMapping>> {
    let maps: Vec<_> = ranges.iter().map(super::namespaces::mapping).collect();
    Some(maps).filter(|maps| !maps.is_empty())
}

#[cfg(test)]
mod tests;
