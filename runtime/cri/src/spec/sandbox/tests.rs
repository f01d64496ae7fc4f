use oci_spec::image::{Config, ImageConfiguration};
use protocol::cri::{
    IdMapping, Int64Value, LinuxSandboxSecurityContext, NamespaceMode, PodSandboxConfig,
    SecurityProfile, UserNamespace,
};

use super::*;
use crate::spec::tests::node;
use crate::spec::{HandlerConfig, PodPaths};

struct Case {
    linux: LinuxPodSandboxConfig,
    network: Option<&'static str>,
    runtime: Runtime,
    image: Config,
}

impl Case {
    fn new(context: LinuxSandboxSecurityContext) -> Self {
        let mut image = Config::default();
        image.set_entrypoint(Some(vec!["/pause".to_owned()])).set_user(Some("65535:65535".into()));
        let linux = LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() };
        Self { linux, network: Some("/run/netns/x"), runtime: Runtime::Runc, image }
    }

    fn made(&self) -> Result<Spec, String> {
        let pod = PodSandboxConfig {
            hostname: "web-0".to_owned(),
            linux: Some(self.linux.clone()),
            ..PodSandboxConfig::default()
        };
        let mut image = ImageConfiguration::default();
        image.set_config(Some(self.image.clone()));
        let paths = PodPaths {
            resolv_conf: Some("/pod/resolv.conf".into()),
            shm: Some("/pod/shm".into()),
            ..PodPaths::default()
        };
        let input = SandboxInput {
            pod: &pod,
            pod_id: "p1",
            network: self.network,
            users: None,
            image: &image,
            image_name: "pause:3",
            paths: &paths,
            handler: &HandlerConfig::new(self.runtime),
            node: &node(),
            seccomp_profile: None,
            accounts: None,
        };
        sandbox(&input).map(|made| made.spec).map_err(|error| error.to_string())
    }
}

fn options(options: NamespaceOption) -> LinuxSandboxSecurityContext {
    LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..LinuxSandboxSecurityContext::default()
    }
}

#[test]
fn pause_holds_the_pods_namespaces_and_little_else() {
    let mut case = Case::new(LinuxSandboxSecurityContext {
        seccomp: Some(SecurityProfile::default()),
        supplemental_groups: vec![9],
        ..LinuxSandboxSecurityContext::default()
    });
    case.linux.cgroup_parent = "/kubepods-pod1.slice".to_owned();
    case.linux.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    let spec = case.made().unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!(
        (process.args().as_deref(), process.oom_score_adj()),
        (Some(&["/pause".to_owned()][..]), Some(-998))
    );
    let user = process.user();
    assert_eq!(
        (user.uid(), user.gid(), user.additional_gids().as_deref()),
        (65535, 65535, Some(&[9, 65535][..]))
    );
    assert_eq!(spec.hostname().as_deref(), Some("web-0"));
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(
        linux.cgroups_path().as_deref().unwrap().to_str(),
        Some("kubepods-pod1.slice:cuddy:p1")
    );
    assert!(linux.seccomp().is_some() && linux.namespaces().as_ref().unwrap().len() == 5);
    assert_eq!(linux.resources().as_ref().unwrap().cpu().as_ref().unwrap().shares(), Some(2));
    let sysctls = linux.sysctl().as_ref().unwrap();
    assert_eq!(sysctls["net.ipv4.ip_unprivileged_port_start"], "80");
    assert_eq!(sysctls["net.ipv4.ping_group_range"], "0 2147483647");
    let annotations = spec.annotations().as_ref().unwrap();
    assert_eq!(annotations["io.kubernetes.cri.container-type"], "sandbox");
    let sources: Vec<_> = spec.mounts().as_ref().unwrap().iter().rev().take(2).collect();
    assert_eq!(sources[0].source().as_deref().unwrap().to_str(), Some("/pod/resolv.conf"));
    assert_eq!(sources[1].source().as_deref().unwrap().to_str(), Some("/pod/shm"));
    let shm = spec.mounts().as_ref().unwrap().iter().filter(|m| m.destination().ends_with("shm"));
    assert_eq!(shm.count(), 1);
}

#[test]
fn pod_on_the_nodes_network_has_neither_name_nor_parameters() {
    let node = NamespaceMode::Node.into();
    let mut case =
        Case::new(options(NamespaceOption { network: node, ipc: node, ..Default::default() }));
    case.network = None;
    let spec = case.made().unwrap();
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!((spec.hostname(), linux.sysctl()), (&None, &None));
    let mounts = spec.mounts().as_ref().unwrap();
    let shm = mounts.iter().find(|mount| mount.destination().ends_with("shm")).unwrap();
    assert_eq!(shm.source().as_deref().unwrap().to_str(), Some("/dev/shm"));
}

#[test]
fn users_have_maps_and_no_range_of_groups() {
    let range = IdMapping { host_id: 65536, container_id: 0, length: 65536 };
    let users = UserNamespace { mode: 0, uids: vec![range], gids: vec![range] };
    let namespaces = NamespaceOption { userns_options: Some(users), ..Default::default() };
    let mut case = Case::new(options(namespaces.clone()));
    let spec = case.made().unwrap();
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 65536);
    assert_eq!(linux.gid_mappings(), linux.uid_mappings());
    let sysctls = linux.sysctl().as_ref().unwrap();
    assert!(!sysctls.contains_key("net.ipv4.ping_group_range") && sysctls.len() == 1);
    let network = NamespaceMode::Node.into();
    case = Case::new(options(NamespaceOption { network, ..namespaces }));
    case.network = None;
    let spec = case.made().unwrap();
    let mounts = spec.mounts().as_ref().unwrap();
    let sys = mounts.iter().find(|mount| mount.destination().ends_with("sys")).unwrap();
    assert_eq!(sys.typ().as_deref(), Some("bind"));
}

#[test]
fn what_cannot_be_a_sandbox_is_said() {
    let group = LinuxSandboxSecurityContext {
        run_as_group: Some(Int64Value { value: 5 }),
        ..LinuxSandboxSecurityContext::default()
    };
    assert!(Case::new(group).made().unwrap_err().contains("a group was asked for without a user"));
    let mut case = Case::new(LinuxSandboxSecurityContext::default());
    case.image.set_entrypoint(None);
    assert!(case.made().unwrap_err().starts_with("no command specified"));
    let pid = NamespaceMode::Node.into();
    let mut case = Case::new(options(NamespaceOption { pid, ..Default::default() }));
    case.runtime = Runtime::Machine;
    assert!(case.made().unwrap_err().starts_with("hostPID: "));
}
