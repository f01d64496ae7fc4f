//! What is said about a pod as a whole (pure): by the configuration of its sandbox container, by
//! that of a container which stands alone, or by the Sandbox service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::sizing::Limits;

/// Annotations that tell a sandbox container, which is the pod itself, from all others.
const KINDS: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];

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
pub(crate) fn add_files(spec: &mut Value, files: &[(&'static str, PathBuf)]) {
    let read_only = spec.pointer("/root/readonly") == Some(&Value::Bool(true));
    let Some(spec) = spec.as_object_mut() else { return };
    let mounts = spec.entry("mounts").or_insert_with(|| Value::Array(Vec::new()));
    let Some(mounts) = mounts.as_array_mut() else { return };
    for (destination, source) in files {
        if mounts.iter().any(|mount| mount["destination"] == **destination) {
            continue;
        }
        let access = if read_only { "ro" } else { "rw" };
        mounts.push(serde_json::json!({
            "destination": destination, "type": "bind", "source": source.to_string_lossy(),
            "options": ["rbind", "rprivate", access],
        }));
    }
}

/// Whether a configuration is that of a pod's sandbox container.
pub fn is_sandbox(spec: &Value) -> bool {
    let annotation = |key: &&str| spec.get("annotations")?.get(*key)?.as_str();
    KINDS.iter().filter_map(annotation).any(|kind| kind == "sandbox")
}

impl Pod {
    /// Reads an OCI configuration. Kernel parameters count only in a sandbox container's: any
    /// other container sets its own.
    pub fn from_spec(spec: &Value) -> Self {
        let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str);
        let sandbox = is_sandbox(spec);
        let namespaces = spec.pointer("/linux/namespaces").and_then(Value::as_array);
        let namespaces: Vec<&Value> = namespaces.into_iter().flatten().collect();
        let namespace = |kind: &str| namespaces.iter().find(|entry| entry["type"] == kind);
        let network = namespace("network").and_then(|entry| entry["path"].as_str());
        let score = spec.pointer("/process/oomScoreAdj").and_then(Value::as_i64);
        let pod = Self {
            limits: Limits::from_spec(spec),
            limits_in_cgroup: sandbox,
            hostname: text("/hostname").filter(|name| !name.is_empty()).map(str::to_owned),
            sysctls: if sandbox { sysctls(spec) } else { BTreeMap::new() },
            network: network.filter(|path| !path.is_empty()).map(PathBuf::from),
            cgroup: text("/linux/cgroupsPath").filter(|path| !path.is_empty()).map(str::to_owned),
            oom_score_adj: score.and_then(|score| i32::try_from(score).ok()),
            pid_namespace: namespace("pid").is_some(),
        };
        if namespace("user").is_some() { pod.with_users() } else { pod }
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

fn sysctls(spec: &Value) -> BTreeMap<String, String> {
    let given = spec.pointer("/linux/sysctl").and_then(Value::as_object);
    let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    given.into_iter().flatten().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sandbox_container_of_containerd_says_everything() {
        let spec = json!({
            "hostname": "web-0",
            "process": {"oomScoreAdj": -998},
            "annotations": {"io.kubernetes.cri.container-type": "sandbox",
                "io.kubernetes.cri.sandbox-memory": "67108864"},
            "linux": {
                "cgroupsPath": "/kubepods/pod1/abc",
                "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
                "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}],
            },
        });
        assert!(is_sandbox(&spec));
        let pod = Pod::from_spec(&spec);
        assert_eq!((pod.limits.memory_bytes, pod.limits_in_cgroup), (Some(64 << 20), true));
        assert_eq!(pod.hostname.as_deref(), Some("web-0"));
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
        let pod = Pod::from_spec(&spec);
        assert_eq!(pod.sysctls["net.ipv4.ip_unprivileged_port_start"], "80");
        assert_eq!(pod.sysctls["net.ipv4.ping_group_range"], "0 2147483647");
    }

    #[test]
    fn file_of_the_pod_gives_way_to_the_containers_own() {
        let mut spec =
            json!({"root": {"readonly": true}, "mounts": [{"destination": "/etc/hosts"}]});
        let files = [("/etc/hosts", "/s/hosts".into()), ("/etc/hostname", "/s/hostname".into())];
        add_files(&mut spec, &files);
        assert_eq!(spec["mounts"].as_array().unwrap().len(), 2);
        assert_eq!(spec["mounts"][1]["source"], "/s/hostname");
        assert_eq!(spec["mounts"][1]["options"][2], "ro");
    }

    #[test]
    fn container_that_stands_alone_keeps_its_parameters_and_may_say_nothing() {
        let spec = json!({"linux": {"sysctl": {"kernel.msgmax": "1"},
            "namespaces": [{"type": "network"}]}});
        assert!(!is_sandbox(&spec));
        assert_eq!(Pod::from_spec(&spec), Pod::default());
        assert_eq!(Pod::from_spec(&Value::Null), Pod::default());
        let infra = json!({"annotations": {"io.kubernetes.cri-o.ContainerType": "sandbox"}});
        assert!(is_sandbox(&infra));
    }
}
