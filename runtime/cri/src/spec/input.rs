//! What a configuration is made of. The caller has asked the host; nothing here does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use accounts::Files as Accounts;
use glob::Pattern;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::LinuxDeviceType;
use protocol::cri::{ContainerConfig, PodSandboxConfig};

/// Whose shim carries a configuration out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Ours: the container runs in the pod's machine.
    Machine,
    /// `containerd-shim-runc-v2`: the container runs in the node's own kernel.
    Runc,
}

/// A RuntimeClass's handler.
#[derive(Debug, Clone)]
pub struct HandlerConfig {
    /// Whose shim it is.
    pub runtime: Runtime,
    /// Whether recursively read-only mounts are offered.
    pub recursive_read_only: bool,
    /// Whether user namespaces are offered.
    pub user_namespaces: bool,
    /// Keys of a pod's annotations that its containers' configurations have too.
    pub pod_annotations: Vec<Pattern>,
    /// The same of a container's.
    pub container_annotations: Vec<Pattern>,
    /// Whether containers may write to their cgroup.
    pub cgroup_writable: bool,
    /// Whether a privileged container gets the node's devices. A machine has none of them.
    pub privileged_with_devices: bool,
}

impl HandlerConfig {
    /// What a handler is where the node's administrator says nothing.
    pub fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            recursive_read_only: true,
            user_namespaces: true,
            pod_annotations: Vec::new(),
            container_annotations: Vec::new(),
            cgroup_writable: false,
            privileged_with_devices: true,
        }
    }
}

/// Who makes cgroups on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// systemd, by slices and scopes.
    Systemd,
    /// Whoever needs one, by a directory.
    Cgroupfs,
}

/// What the node can do.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name that pods without one of their own have.
    pub hostname: String,
    /// Who makes cgroups.
    pub cgroup_driver: CgroupDriver,
    /// Whether containers have a namespace of cgroups: not on a node with version 1.
    pub cgroup_namespaces: bool,
    /// Whether swap can be limited.
    pub swap: bool,
    /// Whether huge pages can be limited.
    pub hugetlb: bool,
    /// Whether the kernel filters system calls.
    pub seccomp: bool,
    /// None where there is no AppArmor.
    pub apparmor: Option<AppArmor>,
    /// The highest capability that the kernel knows (`/proc/sys/kernel/cap_last_cap`).
    pub last_capability: usize,
    /// Options of `/sys/fs/cgroup` that a container without a cgroup namespace must not take away.
    pub cgroup_options: Vec<String>,
}

/// The node's AppArmor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppArmor {
    /// The profiles that are loaded.
    pub loaded: BTreeSet<String>,
    /// Why the default one could not be loaded; empty where nobody tried.
    pub failed: String,
}

/// Files of the pod on the host; none where the shim makes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodPaths {
    /// Its `/etc/hostname`.
    pub hostname: Option<PathBuf>,
    /// Its `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// Its `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// Its `/dev/shm`.
    pub shm: Option<PathBuf>,
}

/// How a mount of the host takes part in others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// It follows another.
    Slave,
    /// It follows others, and is followed.
    Shared,
}

/// What is at a host path that a mount names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path without symbolic links.
    pub path: PathBuf,
    /// How the mount takes part in others that the path is in.
    pub propagation: Propagation,
}

/// An image that is mounted as a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVolume {
    /// The image, as `Mount.image.image` has it.
    pub image: String,
    /// The part of it, as `Mount.image_sub_path` has it.
    pub sub_path: String,
    /// Where it is, or why it is not there.
    pub place: Result<ImagePlace, String>,
}

/// Where an image is that is mounted as a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImagePlace {
    /// Mounted on the host.
    Host(PathBuf),
    /// In the files of its layers, the lowest one first. A machine gets them as disks, and the
    /// guest finds the sub-path.
    Layers(Vec<PathBuf>),
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Its path below what was asked for: empty for the path itself, a relative path for what is
    /// in a directory of devices.
    pub below: PathBuf,
    /// Character or block device, or a pipe.
    pub kind: LinuxDeviceType,
    /// The kernel's number of the driver.
    pub major: i64,
    /// The driver's number of the device.
    pub minor: i64,
    /// Permissions, such as 0o660.
    pub mode: u32,
    /// Who owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
}

/// What the host was asked about for this container.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// By `Mount.host_path`. One that is missing here is taken as it is written.
    pub sources: BTreeMap<String, Source>,
    /// The images that mounts name.
    pub image_volumes: Vec<ImageVolume>,
    /// Where the volumes of the image itself are on the host, by what
    /// [`volumes_of_image`](super::volumes_of_image) says.
    pub volumes: BTreeMap<String, PathBuf>,
    /// By `Device.host_path`.
    pub devices: BTreeMap<String, Vec<DeviceNode>>,
    /// All devices of the host, below `/`, for a privileged container.
    pub host_devices: Vec<DeviceNode>,
    /// What is in the seccomp profile that [`localhost_seccomp`](super::localhost_seccomp) names.
    pub seccomp_profile: Option<String>,
    /// The image's users. Not for [`Runtime::Machine`], where the guest looks.
    pub accounts: Option<Accounts>,
}

/// Everything that a container's configuration depends on.
#[derive(Debug, Clone, Copy)]
pub struct ContainerInput<'a> {
    /// The pod, as `RunPodSandbox` got it.
    pub pod: &'a PodSandboxConfig,
    /// The pod's id.
    pub pod_id: &'a str,
    /// The process that stands for the pod, as its shim told.
    pub pod_pid: u32,
    /// The container, as `CreateContainer` got it.
    pub container: &'a ContainerConfig,
    /// The container's id.
    pub container_id: &'a str,
    /// The process of the container whose process ids this one shares (`NamespaceMode::Target`).
    pub target_pid: Option<u32>,
    /// The image's configuration.
    pub image: &'a ImageConfiguration,
    /// The pod's files.
    pub paths: &'a PodPaths,
    /// The handler.
    pub handler: &'a HandlerConfig,
    /// The node.
    pub node: &'a Node,
    /// The host's answers for this container.
    pub found: &'a Found,
}

/// Everything that the configuration of a pod's sandbox container depends on.
#[derive(Debug, Clone, Copy)]
pub struct SandboxInput<'a> {
    /// The pod, as `RunPodSandbox` got it.
    pub pod: &'a PodSandboxConfig,
    /// Its id.
    pub pod_id: &'a str,
    /// Its network namespace (`/run/netns/…`); none for one on the node's network.
    pub network: Option<&'a str>,
    /// A user namespace that was made before, with the pod's maps, and owns the network namespace.
    pub users: Option<&'a str>,
    /// The configuration of the image whose process pauses.
    pub image: &'a ImageConfiguration,
    /// The name of that image.
    pub image_name: &'a str,
    /// The pod's files.
    pub paths: &'a PodPaths,
    /// The handler.
    pub handler: &'a HandlerConfig,
    /// The node.
    pub node: &'a Node,
    /// What is in the seccomp profile that the pod names.
    pub seccomp_profile: Option<&'a str>,
    /// The image's users.
    pub accounts: Option<&'a Accounts>,
}
