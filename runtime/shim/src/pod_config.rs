//! What containerd tells the Sandbox service of a pod. CRI's `PodSandboxConfig` becomes the core's
//! [`Pod`] and the files that a node's agent would find on the host. It is pure, but for the node's
//! own files, which stand in for what is not said.

use std::path::PathBuf;

use api::Error;
use containerd_shim_protos::sandbox_api::CreateSandboxRequest;
use prost::Message;
use protocol::cri::{DnsConfig, NamespaceMode, PodSandboxConfig};
use sandbox::Pod;
use sandbox::pod::PodFile;
use sandbox::sizing::Limits;

/// Oom score of a sandbox in containerd's own controller.
const OOM_SCORE_ADJ: i32 = -998;

/// Reads a request.
///
/// # Errors
/// [`Error::Invalid`] when its options are not a pod's configuration.
pub(crate) fn read(request: &CreateSandboxRequest) -> Result<(Pod, Vec<PodFile>), Error> {
    let config = PodSandboxConfig::decode(&*request.options.value).map_err(|error| {
        Error::Invalid(format!("the options are no configuration of a pod: {error}"))
    })?;
    let files = files(&config, &request.sandbox_id);
    Ok((pod(config, request), files))
}

fn pod(config: PodSandboxConfig, request: &CreateSandboxRequest) -> Pod {
    let linux = config.linux.unwrap_or_default();
    let resources = linux.resources.unwrap_or_default();
    let positive = |value: i64| u64::try_from(value).ok().filter(|&value| value > 0);
    let namespaces = linux.security_context.and_then(|context| context.namespace_options);
    let namespaces = namespaces.unwrap_or_default();
    let users =
        namespaces.userns_options.as_ref().is_some_and(|users| users.mode() == NamespaceMode::Pod);
    let pod = Pod {
        limits: Limits {
            cpu_quota_us: positive(resources.cpu_quota),
            cpu_period_us: positive(resources.cpu_period),
            memory_bytes: positive(resources.memory_limit_in_bytes),
        },
        limits_in_cgroup: false,
        hostname: Some(config.hostname).filter(|name| !name.is_empty()),
        cgroup: cgroup(&linux.cgroup_parent, &request.sandbox_id),
        sysctls: linux.sysctls.into_iter().collect(),
        network: Some(PathBuf::from(&request.netns_path)).filter(|path| path.is_absolute()),
        oom_score_adj: Some(OOM_SCORE_ADJ),
        pid_namespace: namespaces.pid() != NamespaceMode::Node,
        namespace: config.metadata.map(|metadata| metadata.namespace),
    };
    if users { pod.with_users() } else { pod }
}

/// The cgroup that containerd's own controller would use below `parent`.
fn cgroup(parent: &str, id: &str) -> Option<String> {
    let last = parent.rsplit('/').next().unwrap_or_default();
    if last.ends_with(".slice") {
        return Some(format!("{last}:cri-containerd:{id}"));
    }
    (!parent.is_empty()).then(|| format!("{}/{id}", parent.trim_end_matches('/')))
}

/// The files that containerd's own controller makes for its containers.
fn files(config: &PodSandboxConfig, id: &str) -> Vec<PodFile> {
    let node = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let hostname = if config.hostname.is_empty() { id } else { &config.hostname };
    let resolv = match &config.dns_config {
        Some(dns) if *dns != DnsConfig::default() => resolv_conf(dns),
        _ => node("/etc/resolv.conf"),
    };
    let file = |destination, text| PodFile { destination, text };
    vec![
        file("/etc/hostname", format!("{hostname}\n")),
        file("/etc/hosts", node("/etc/hosts")),
        file("/etc/resolv.conf", resolv),
    ]
}

/// resolv.conf(5).
fn resolv_conf(dns: &DnsConfig) -> String {
    let list = |word: &str, entries: &[String]| match entries {
        [] => String::new(),
        entries => format!("{word} {}\n", entries.join(" ")),
    };
    let servers = dns.servers.iter().map(|server| format!("nameserver {server}\n"));
    list("search", &dns.searches) + &servers.collect::<String>() + &list("options", &dns.options)
}

#[cfg(test)]
mod tests {
    use protocol::cri::{
        LinuxContainerResources, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
        NamespaceOption,
    };

    use super::*;

    fn request(config: &PodSandboxConfig) -> CreateSandboxRequest {
        let mut request = CreateSandboxRequest {
            sandbox_id: "abc".into(),
            netns_path: "/run/netns/x".into(),
            ..CreateSandboxRequest::default()
        };
        request.options.mut_or_insert_default().value = config.encode_to_vec();
        request
    }

    #[test]
    fn configuration_becomes_a_pod_with_its_files() {
        let mut config = PodSandboxConfig { hostname: "web-0".into(), ..Default::default() };
        config.dns_config = Some(DnsConfig {
            servers: vec!["10.0.0.10".into()],
            searches: vec!["a.b".into(), "b".into()],
            options: vec!["ndots:5".into()],
        });
        let mut linux =
            LinuxPodSandboxConfig { cgroup_parent: "/kubepods/pod1".into(), ..Default::default() };
        linux.sysctls.insert("net.core.somaxconn".into(), "99".into());
        let memory_limit_in_bytes = 64 << 20;
        linux.resources =
            Some(LinuxContainerResources { memory_limit_in_bytes, ..Default::default() });
        config.linux = Some(linux);
        let (pod, files) = read(&request(&config)).unwrap();
        assert_eq!(pod.limits.memory_bytes, Some(64 << 20));
        assert_eq!(pod.limits.cpu_quota_us, None);
        assert_eq!(pod.cgroup.as_deref(), Some("/kubepods/pod1/abc"));
        assert_eq!(pod.network, Some("/run/netns/x".into()));
        assert_eq!(pod.sysctls["net.core.somaxconn"], "99");
        assert!(pod.pid_namespace);
        assert_eq!((files[0].destination, files[0].text.as_str()), ("/etc/hostname", "web-0\n"));
        assert_eq!(files[2].text, "search a.b b\nnameserver 10.0.0.10\noptions ndots:5\n");
    }

    #[test]
    fn processes_of_the_node_are_the_guests() {
        let pid = NamespaceMode::Node.into();
        let namespace_options = Some(NamespaceOption { pid, ..Default::default() });
        let security_context =
            Some(LinuxSandboxSecurityContext { namespace_options, ..Default::default() });
        let linux = Some(LinuxPodSandboxConfig { security_context, ..Default::default() });
        let config = PodSandboxConfig { linux, ..Default::default() };
        assert!(!read(&request(&config)).unwrap().0.pid_namespace);
    }

    /// Field numbers are the interface's, whatever the fields are called here.
    #[test]
    fn bytes_are_read_as_containerd_writes_them() {
        let parts: [&[u8]; 6] = [
            b"\x12\x01n",                                // hostname
            b"\x22\x09\x0a\x01s\x12\x01d\x1a\x01o",      // dns_config
            b"\x42\x1e\x0a\x02/p",                       // linux, with cgroup_parent,
            b"\x12\x08\x0a\x06\x10\x02\x2a\x02\x08\x00", // security_context,
            b"\x1a\x06\x0a\x01k\x12\x01v",               // sysctls
            b"\x2a\x06\x08\x07\x10\x08\x20\x09",         // and resources
        ];
        let mut request = request(&PodSandboxConfig::default());
        request.options.mut_or_insert_default().value = parts.concat();
        let (pod, files) = read(&request).unwrap();
        assert_eq!(pod.hostname.as_deref(), Some("n"));
        assert_eq!(files[2].text, "search d\nnameserver s\noptions o\n");
        assert_eq!(pod.cgroup.as_deref(), Some("/p/abc"));
        assert!(!pod.pid_namespace);
        assert_eq!(pod.sysctls["k"], "v");
        assert_eq!(pod.sysctls["net.ipv4.ip_unprivileged_port_start"], "0");
        let limits = (pod.limits.cpu_period_us, pod.limits.cpu_quota_us, pod.limits.memory_bytes);
        assert_eq!(limits, (Some(7), Some(8), Some(9)));
    }

    #[test]
    fn both_cgroup_drivers_are_known() {
        let slice = "/kubepods.slice/kubepods-pod1.slice";
        assert_eq!(cgroup(slice, "a").unwrap(), "kubepods-pod1.slice:cri-containerd:a");
        assert_eq!(cgroup("", "a"), None);
    }
}
