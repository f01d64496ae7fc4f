//! What is said about a pod as a whole (pure). It comes from the configuration of its sandbox
//! container or of a container which stands alone, or from the Sandbox service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::Error;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount, MountBuilder, Root};

use crate::sizing::Limits;
use crate::spec::Document;
use crate::spec::document::joined;

/// Annotations that tell a sandbox container, which is the pod itself, from all others.
const KINDS: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];

/// Annotations that tell a pod's namespace, of containerd's and of CRI-O's.
const NAMESPACES: [&str; 2] =
    ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri-o.Namespace"];

/// Kernel parameters by which everybody may use low ports and ICMP sockets. The network belongs to
/// the guest, not to a pod's user namespace, whose root would have the right to both under runc.
const FOR_USERS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// A pod, as far as its machine is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// What the machine is sized by.
    pub limits: Limits,
    /// Whether what they leave open is taken from the cgroup that has `cgroup` in it. CRI-O of
    /// some versions, and who writes configurations by hand, state the limits of a sandbox only
    /// where the kubelet sets them.
    pub limits_in_cgroup: bool,
    /// The guest's name; none: the sandbox's id, or the first 64 bytes of it.
    pub hostname: Option<String>,
    /// Kernel parameters of the guest, for all containers.
    pub sysctls: BTreeMap<String, String>,
    /// The network namespace on the host whose interfaces the guest has.
    pub network: Option<PathBuf>,
    /// Cgroup on the host for the pod's processes, as the OCI configuration's `cgroupsPath`.
    pub cgroup: Option<String>,
    /// What the machine's process is worth to the host's OOM killer, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Whether containers that share process ids share those of the pod and not of the guest.
    pub pid_namespace: bool,
    /// Namespace of Kubernetes that it is in, if its caller says so.
    pub namespace: Option<String>,
}

/// A file that all containers of a pod see, unless they have one of their own there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFile {
    /// Where they see it.
    pub destination: &'static str,
    /// What is in it.
    pub text: String,
}

/// Adds mounts of a pod's files, by destination and place on the host, to a configuration that
/// has none there; they are as writable as its root.
///
/// # Errors
/// [`Error::Invalid`] when the configuration's mounts are none.
pub(crate) fn add_files(
    spec: &mut Document,
    files: &[(&'static str, PathBuf)],
) -> Result<(), Error> {
    let root = spec.get::<Root>("/root")?;
    let read_only = root.and_then(|root| root.readonly()).unwrap_or_default();
    let access = if read_only { "ro" } else { "rw" };
    let own: Vec<Mount> = spec.list("/mounts")?;
    for (destination, source) in files {
        if own.iter().any(|mount| mount.destination().as_os_str() == *destination) {
            continue;
        }
        let mount = MountBuilder::default().destination(*destination).typ("bind").source(source);
        let mount = mount.options(["rbind", "rprivate", access].map(str::to_owned)).build();
        let mount = mount.map_err(|error| Error::failed("describing a mount", &error))?;
        spec.push("/mounts", &mount)?;
    }
    Ok(())
}

/// Whether a configuration is that of a pod's sandbox container.
///
/// # Errors
/// [`Error::Invalid`] when its annotations are no texts.
pub fn is_sandbox(spec: &Document) -> Result<bool, Error> {
    let annotations = spec.annotations()?;
    Ok(KINDS.iter().any(|key| annotations.get(*key).is_some_and(|kind| kind == "sandbox")))
}

impl Pod {
    /// Reads an OCI configuration. Kernel parameters count only in a sandbox container's: any
    /// other container sets its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] when what it says of a pod is not as OCI has it.
    pub fn from_spec(spec: &Document) -> Result<Self, Error> {
        let sandbox = is_sandbox(spec)?;
        let annotations = spec.annotations()?;
        let namespaces: Vec<LinuxNamespace> = spec.list("/linux/namespaces")?;
        let namespace = |kind| namespaces.iter().find(|namespace| namespace.typ() == kind);
        let sysctls = if sandbox { spec.get("/linux/sysctl")? } else { None };
        let pod = Self {
            limits: Limits::from_spec(spec)?,
            limits_in_cgroup: sandbox,
            hostname: spec.text("/hostname")?,
            sysctls: sysctls.unwrap_or_default(),
            network: namespace(LinuxNamespaceType::Network).and_then(joined).map(Into::into),
            cgroup: spec.text("/linux/cgroupsPath")?,
            oom_score_adj: spec.get("/process/oomScoreAdj")?,
            pid_namespace: namespace(LinuxNamespaceType::Pid).is_some(),
            namespace: NAMESPACES.iter().find_map(|key| annotations.get(*key)).cloned(),
        };
        Ok(if namespace(LinuxNamespaceType::User).is_some() { pod.with_users() } else { pod })
    }

    /// The same for containers in a user namespace. What was asked for stays as it is.
    #[must_use]
    pub fn with_users(mut self) -> Self {
        for (key, value) in FOR_USERS {
            self.sysctls.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sandbox_container_of_containerd_says_everything() {
        let spec = Document::from(json!({
            "hostname": "web-0",
            "process": {"oomScoreAdj": -998},
            "annotations": {"io.kubernetes.cri.container-type": "sandbox",
                "io.kubernetes.cri.sandbox-memory": "67108864",
                "io.kubernetes.cri.sandbox-namespace": "shop"},
            "linux": {
                "cgroupsPath": "/kubepods/pod1/abc",
                "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
                "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}],
            },
        }));
        assert_eq!(is_sandbox(&spec), Ok(true));
        let pod = Pod::from_spec(&spec).unwrap();
        assert_eq!((pod.limits.memory_bytes, pod.limits_in_cgroup), (Some(64 << 20), true));
        assert_eq!(pod.hostname.as_deref(), Some("web-0"));
        assert_eq!(pod.namespace.as_deref(), Some("shop"));
        assert_eq!(pod.network, Some("/run/netns/x".into()));
        assert_eq!(pod.cgroup.as_deref(), Some("/kubepods/pod1/abc"));
        assert_eq!((pod.oom_score_adj, pod.pid_namespace), (Some(-998), true));
        assert_eq!(pod.sysctls["net.ipv4.ip_unprivileged_port_start"], "0");
    }

    #[test]
    fn users_of_a_namespace_may_do_with_the_network_what_is_usual() {
        let spec = json!({
            "annotations": {"io.kubernetes.cri-o.ContainerType": "sandbox"},
            "linux": {"sysctl": {"net.ipv4.ip_unprivileged_port_start": "80"},
                "namespaces": [{"type": "user"}]},
        });
        let pod = Pod::from_spec(&spec.into()).unwrap();
        assert_eq!(pod.sysctls["net.ipv4.ip_unprivileged_port_start"], "80");
        assert_eq!(pod.sysctls["net.ipv4.ping_group_range"], "0 2147483647");
    }

    #[test]
    fn file_of_the_pod_gives_way_to_the_containers_own() {
        let mut spec = Document::from(
            json!({"root": {"readonly": true}, "mounts": [{"destination": "/etc/hosts"}]}),
        );
        let files = [("/etc/hosts", "/s/hosts".into()), ("/etc/hostname", "/s/hostname".into())];
        add_files(&mut spec, &files).unwrap();
        let added = json!({"destination": "/etc/hostname", "type": "bind", "source": "/s/hostname",
            "options": ["rbind", "rprivate", "ro"]});
        assert_eq!(*spec.json("/mounts"), json!([{"destination": "/etc/hosts"}, added]));
    }

    #[test]
    fn container_that_stands_alone_keeps_its_parameters_and_may_say_nothing() {
        let spec = json!({"linux": {"sysctl": {"kernel.msgmax": "1"},
            "namespaces": [{"type": "network", "path": ""}]}});
        let spec = Document::from(spec);
        assert_eq!(is_sandbox(&spec), Ok(false));
        assert_eq!(Pod::from_spec(&spec), Ok(Pod::default()));
        assert_eq!(Pod::from_spec(&Document::default()), Ok(Pod::default()));
        let infra = json!({"annotations": {"io.kubernetes.cri-o.ContainerType": "sandbox"}});
        assert_eq!(is_sandbox(&infra.into()), Ok(true));
    }
}
