//! What a foreign container's configuration depends on beyond a machine's: the node's devices, the
//! image's users, processes of the pod.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxDeviceType;
use protocol::cri::{ContainerConfig, LinuxContainerSecurityContext, NamespaceMode};
use shim_client::Shim;

use crate::fault::{Fault, blocking};
use crate::foreign::files;
use crate::pod::site::{self, Site};
use crate::spec::{self, Accounts, DeviceNode, Found, Node, PodPaths};

/// Most bytes of an image's `/etc/passwd` or `/etc/group`.
const ACCOUNTS: u64 = 8 << 20;

/// Where the node's devices are.
const DEVICES: &str = "/dev";

/// What of them is no device of its own: each container has its own, or none.
const NO_DEVICES: [&str; 8] =
    ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];

/// Most directories of devices in each other.
const DEPTH: usize = 8;

/// The processes that a container joins.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pids {
    /// The process of the sandbox container.
    pub(crate) pod: u32,
    /// The process of the container whose process ids are shared.
    pub(crate) target: Option<u32>,
}

/// What the node can do, as the pod's handler is to use it.
pub(crate) fn facts(site: &Site) -> Node {
    let mut facts = site.node.facts();
    facts.cgroup_driver = site.class.cgroup_driver.unwrap_or(facts.cgroup_driver);
    facts
}

/// The pod's files.
pub(crate) fn paths(site: &Site) -> PodPaths {
    files::paths(&site.bundle())
}

/// Asks the shim for the processes that a container joins.
///
/// # Errors
/// What the shim said.
pub(crate) async fn pids(
    site: &Site,
    shim: &Shim,
    container: &ContainerConfig,
) -> Result<Pids, Fault> {
    let pod = shim.state(&site::init(&site.id)?).await?.pid;
    let context = container.linux.clone().and_then(|linux| linux.security_context);
    let options = context.and_then(|context| context.namespace_options).unwrap_or_default();
    let target = match options.pid == i32::from(NamespaceMode::Target) {
        true => Some(shim.state(&site::init(&options.target_id)?).await?.pid),
        false => None,
    };
    Ok(Pids { pod, target: target.filter(|pid| *pid != 0) })
}

/// Asks the node for devices, and the image, which is mounted at `root`, for its users.
///
/// # Errors
/// [`Fault::Internal`] with what can't be read.
pub(crate) async fn found(container: &ContainerConfig, root: PathBuf) -> Result<Found, Fault> {
    let context = container.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let privileged = context.is_some_and(|context| context.privileged);
    let asked: Vec<_> = container.devices.iter().map(|device| device.host_path.clone()).collect();
    let found = blocking("asking the node for devices", move || {
        let read = |path: &str| {
            let read = overlay::read_below(&root, path, ACCOUNTS);
            let text = read.map_err(|error| {
                Fault::InvalidArgument(format!("/{path} of the image: {error}"))
            })?;
            Ok::<_, Fault>(text.unwrap_or_default())
        };
        let accounts = Accounts { passwd: read("etc/passwd")?, group: read("etc/group")? };
        let devices = asked.into_iter().map(|path| (path.clone(), at(Path::new(&path))));
        let host_devices = if privileged { all() } else { Vec::new() };
        Ok(Found {
            devices: devices.collect(),
            host_devices,
            accounts: Some(accounts),
            ..Found::default()
        })
    });
    found.await?
}

/// The seccomp profile of the node that a container or a pod names.
///
/// # Errors
/// [`Fault::InvalidArgument`] with its path.
pub(crate) async fn profile(
    context: &LinuxContainerSecurityContext,
) -> Result<Option<String>, Fault> {
    let asked = spec::localhost_seccomp(context);
    let Some(path) = asked.map_err(|error| Fault::InvalidArgument(error.to_string()))? else {
        return Ok(None);
    };
    let text = tokio::fs::read_to_string(&path).await;
    text.map(Some)
        .map_err(|error| Fault::InvalidArgument(format!("seccomp profile {path}: {error}")))
}

/// The device at a path, or all that are in it.
fn at(path: &Path) -> Vec<DeviceNode> {
    let Ok(facts) = std::fs::metadata(path) else { return Vec::new() };
    let mut devices = Vec::new();
    match facts.is_dir() {
        true => within(path, Path::new(""), DEPTH, &mut devices),
        false => devices.extend(device(PathBuf::new(), &facts)),
    }
    devices
}

/// All devices of the node, by their paths below `/`.
fn all() -> Vec<DeviceNode> {
    let mut devices = Vec::new();
    within(Path::new(DEVICES), Path::new(""), DEPTH, &mut devices);
    devices.iter_mut().for_each(|device| device.below = Path::new("dev").join(&device.below));
    devices
}

fn within(root: &Path, below: &Path, depth: usize, devices: &mut Vec<DeviceNode>) {
    let Ok(entries) = std::fs::read_dir(root.join(below)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let skipped = NO_DEVICES.iter().any(|skipped| name == **skipped);
        let Ok(facts) = entry.metadata() else { continue };
        let path = below.join(&name);
        if facts.is_dir() && depth > 0 && !skipped {
            within(root, &path, depth - 1, devices);
        } else if !facts.is_dir() && !skipped {
            devices.extend(device(path, &facts));
        }
    }
}

/// A device, if it is one. Pipes and links are none.
fn device(below: PathBuf, facts: &Metadata) -> Option<DeviceNode> {
    let kind = match facts.file_type() {
        kind if kind.is_block_device() => LinuxDeviceType::B,
        kind if kind.is_char_device() => LinuxDeviceType::C,
        _ => return None,
    };
    let number = facts.rdev();
    Some(DeviceNode {
        below,
        kind,
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        mode: facts.permissions().mode() & 0o777,
        uid: facts.uid(),
        gid: facts.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_the_node_have_their_numbers() {
        let null = at(Path::new("/dev/null"));
        assert_eq!((null.len(), null[0].major, null[0].minor), (1, 1, 3));
        assert_eq!(null[0].below, Path::new(""));
        assert!(at(Path::new("/etc/passwd")).is_empty() && at(Path::new("/missing")).is_empty());
        let all = all();
        assert!(all.iter().any(|device| device.below == Path::new("dev/null")));
        assert!(!all.iter().any(|device| device.below.starts_with("dev/pts")));
    }
}
