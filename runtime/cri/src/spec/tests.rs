use std::collections::HashMap;

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{Capability, LinuxNamespaceType};
use protocol::cri::{
    ContainerConfig, KeyValue, LinuxContainerResources, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, SecurityProfile,
};

use super::*;

/// A node that can do everything, and has no AppArmor.
pub(super) fn node() -> Node {
    Node {
        hostname: "node-1".to_owned(),
        cgroup_driver: CgroupDriver::Systemd,
        cgroup_namespaces: true,
        swap: true,
        hugetlb: true,
        seccomp: true,
        apparmor: None,
        last_capability: 40,
        cgroup_options: vec!["nsdelegate".to_owned()],
    }
}

/// What an input borrows from.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) pod: PodSandboxConfig,
    pub(super) container: ContainerConfig,
    pub(super) image: ImageConfiguration,
    pub(super) paths: PodPaths,
    pub(super) handler: HandlerConfig,
    pub(super) node: Node,
    pub(super) found: Found,
    pub(super) target_pid: Option<u32>,
}

impl Case {
    /// A container that says nothing but what to run.
    pub(super) fn new(runtime: Runtime) -> Self {
        let container =
            ContainerConfig { command: vec!["/bin/true".to_owned()], ..Default::default() };
        Self {
            pod: PodSandboxConfig::default(),
            container,
            image: ImageConfiguration::default(),
            paths: PodPaths::default(),
            handler: HandlerConfig::new(runtime),
            node: node(),
            found: Found::default(),
            target_pid: None,
        }
    }

    pub(super) fn input(&self) -> ContainerInput<'_> {
        ContainerInput {
            pod: &self.pod,
            pod_id: "p1",
            pod_pid: 7,
            container: &self.container,
            container_id: "c1",
            target_pid: self.target_pid,
            image: &self.image,
            paths: &self.paths,
            handler: &self.handler,
            node: &self.node,
            found: &self.found,
        }
    }

    /// The security contexts of pod and container, to be filled in.
    fn secured(
        mut self,
        pod: LinuxSandboxSecurityContext,
        own: LinuxContainerSecurityContext,
    ) -> Self {
        let linux = LinuxPodSandboxConfig { security_context: Some(pod), ..Default::default() };
        self.pod.linux = Some(linux);
        let linux = LinuxContainerConfig { security_context: Some(own), ..Default::default() };
        self.container.linux = Some(linux);
        self
    }

    fn made(&self) -> Result<ContainerSpec, SpecError> {
        container(&self.input())
    }
}

fn linux(spec: &Spec) -> &Linux {
    spec.linux().as_ref().unwrap()
}

#[test]
fn container_that_says_nothing_has_the_defaults_and_no_more() {
    let ContainerSpec { spec, notes } = Case::new(Runtime::Runc).made().unwrap();
    let process = spec.process().as_ref().unwrap();
    assert!(notes.is_empty());
    assert_eq!(process.args().as_deref(), Some(&["/bin/true".to_owned()][..]));
    assert_eq!((process.rlimits(), process.apparmor_profile()), (&None, &None));
    assert_eq!((process.no_new_privileges(), process.terminal()), (Some(false), Some(false)));
    assert_eq!((process.user().uid(), process.oom_score_adj()), (0, None));
    let held = process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap();
    assert!(held.len() == 14 && !held.contains(&Capability::SysAdmin));
    let root = spec.root().as_ref().unwrap();
    assert_eq!((root.path().to_str(), root.readonly()), (Some("rootfs"), Some(false)));
    assert_eq!((spec.hostname(), spec.hooks()), (&None, &None));
    let linux = linux(&spec);
    assert_eq!(linux.masked_paths().as_deref(), Some(&[][..]));
    assert_eq!((linux.seccomp(), linux.devices(), linux.sysctl()), (&None, &None, &None));
    assert_eq!(linux.cgroups_path().as_deref().unwrap().to_str(), Some("system.slice:cuddy:c1"));
    let resources = linux.resources().as_ref().unwrap();
    assert_eq!((resources.cpu(), resources.memory(), resources.pids()), (&None, &None, &None));
    let rules = resources.devices().as_ref().unwrap();
    assert!(rules.len() == 1 && !rules[0].allow());
    let json = serde_json::to_value(&spec).unwrap();
    let back: Spec = serde_json::from_value(json).unwrap();
    assert_eq!(back, spec);
}

#[test]
fn containers_on_a_node_with_version_1_have_its_cgroups() {
    let has_own = |runtime: Runtime| {
        let mut case = Case::new(runtime);
        case.node.cgroup_namespaces = false;
        let ContainerSpec { spec, .. } = case.made().unwrap();
        let namespaces = linux(&spec).namespaces().clone().unwrap();
        namespaces.iter().any(|one| one.typ() == LinuxNamespaceType::Cgroup)
    };
    assert!(!has_own(Runtime::Runc));
    assert!(has_own(Runtime::Machine), "the guest's are of version 2");
}

#[test]
fn what_is_asked_for_is_in_the_process() {
    let context = LinuxContainerSecurityContext {
        no_new_privs: true,
        readonly_rootfs: true,
        masked_paths: vec!["/proc/kcore".to_owned()],
        readonly_paths: vec!["/proc/sys".to_owned()],
        selinux_options: Some(SeLinuxOption { level: "s0".to_owned(), ..Default::default() }),
        seccomp: Some(SecurityProfile::default()),
        ..LinuxContainerSecurityContext::default()
    };
    let mut case = Case::new(Runtime::Runc).secured(Default::default(), context);
    case.container.tty = true;
    case.container.envs = vec![KeyValue { key: "A".to_owned(), value: b"1".to_vec() }];
    case.container.linux.as_mut().unwrap().resources =
        Some(LinuxContainerResources { oom_score_adj: -997, cpu_shares: 2, ..Default::default() });
    let ContainerSpec { spec, notes } = case.made().unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!((process.terminal(), process.no_new_privileges()), (Some(true), Some(true)));
    assert_eq!(process.oom_score_adj(), Some(-997));
    let env = process.env().as_ref().unwrap();
    for entry in ["TERM=xterm", "HOSTNAME=node-1", "A=1"] {
        assert!(env.iter().any(|found| found == entry), "{env:?}");
    }
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    let linux = linux(&spec);
    assert_eq!(linux.masked_paths().as_ref().unwrap(), &["/proc/kcore"]);
    assert_eq!(linux.readonly_paths().as_ref().unwrap(), &["/proc/sys"]);
    assert!(linux.seccomp().is_some());
    assert_eq!(linux.resources().as_ref().unwrap().cpu().as_ref().unwrap().shares(), Some(2));
    assert!(notes.len() == 1 && notes[0].contains(":::s0"), "{notes:?}");
}

#[test]
fn privileged_container_is_kept_from_nothing() {
    let pod = LinuxSandboxSecurityContext { privileged: true, ..Default::default() };
    let own = LinuxContainerSecurityContext {
        privileged: true,
        masked_paths: vec!["/proc/kcore".to_owned()],
        seccomp: Some(SecurityProfile::default()),
        ..LinuxContainerSecurityContext::default()
    };
    for runtime in [Runtime::Machine, Runtime::Runc] {
        let mut case = Case::new(runtime).secured(pod.clone(), own.clone());
        let spec = case.made().unwrap().spec;
        let linux = linux(&spec);
        assert_eq!((linux.masked_paths(), linux.readonly_paths()), (&None, &None));
        assert_eq!((linux.seccomp(), linux.rootfs_propagation()), (&None, &None));
        let namespaces = linux.namespaces().as_ref().unwrap();
        assert!(namespaces.iter().all(|namespace| namespace.typ() != LinuxNamespaceType::Cgroup));
        assert!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0].allow());
        case.pod.linux = None;
        let error = case.made().unwrap_err().to_string();
        assert_eq!(error, "no privileged container allowed in sandbox");
    }
}

#[test]
fn agent_is_told_which_names_to_look_up() {
    let own = LinuxContainerSecurityContext {
        run_as_username: "web".to_owned(),
        ..LinuxContainerSecurityContext::default()
    };
    let spec =
        Case::new(Runtime::Machine).secured(Default::default(), own.clone()).made().unwrap().spec;
    let user = spec.process().as_ref().unwrap().user();
    assert_eq!((user.uid(), user.username().as_deref()), (65534, Some("web")));
    assert_eq!(spec.annotations().as_ref().unwrap()[GROUPS], "merge");
    let mut case = Case::new(Runtime::Runc).secured(Default::default(), own);
    let error = case.made().unwrap_err().to_string();
    assert_eq!(error, "user \"web\": not in /etc/passwd of the image");
    let passwd = b"web:x:33:34::/:".to_vec();
    case.found.accounts = Some(Accounts { passwd, group: Vec::new() });
    let spec = case.made().unwrap().spec;
    let user = spec.process().as_ref().unwrap().user();
    assert_eq!((user.uid(), user.gid(), user.username()), (33, 34, &None));
    assert!(!spec.annotations().as_ref().unwrap().contains_key(GROUPS));
}

#[test]
fn machine_refuses_what_is_the_nodes_and_runc_does_not() {
    let own = NamespaceOption { pid: NamespaceMode::Node.into(), ..Default::default() };
    let pod = LinuxSandboxSecurityContext {
        namespace_options: Some(own.clone()),
        ..LinuxSandboxSecurityContext::default()
    };
    let context = LinuxContainerSecurityContext {
        namespace_options: Some(own),
        ..LinuxContainerSecurityContext::default()
    };
    let made = |runtime| Case::new(runtime).secured(pod.clone(), context.clone()).made();
    assert!(made(Runtime::Runc).is_ok());
    let error = made(Runtime::Machine).unwrap_err().to_string();
    assert!(error.starts_with("hostPID: "), "{error}");
}

#[test]
fn profile_that_has_to_be_read_is_named() {
    let profile = SecurityProfile { profile_type: 2, localhost_ref: "/p.json".to_owned() };
    let own = LinuxContainerSecurityContext { seccomp: Some(profile), ..Default::default() };
    assert_eq!(localhost_seccomp(&own), Ok(Some("/p.json".to_owned())));
    let mut case = Case::new(Runtime::Runc).secured(Default::default(), own);
    assert!(case.made().is_err());
    case.found.seccomp_profile = Some(r#"{"defaultAction": "SCMP_ACT_LOG"}"#.to_owned());
    let spec = case.made().unwrap().spec;
    let filter = linux(&spec).seccomp().as_ref().unwrap();
    assert_eq!(filter.default_action().to_string(), "SCMP_ACT_LOG");
}

#[test]
fn part_that_cannot_be_had_ends_it() {
    type Change = fn(&mut Case);
    let changes: [(Change, &str); 6] = [
        (|case| case.container.command.clear(), "no command specified"),
        (|case| case.container.working_dir = "\0".to_owned(), "working directory: it has a NUL"),
        (|case| case.container.mounts = vec![Default::default()], "mount at \"\": "),
        (|case| case.container.devices = vec![Default::default()], "device \"\": "),
        (
            |case| {
                let unified = HashMap::from([("x".to_owned(), String::new())]);
                let resources = Some(LinuxContainerResources { unified, ..Default::default() });
                case.container.linux =
                    Some(LinuxContainerConfig { resources, ..Default::default() });
            },
            "resource \"x\": ",
        ),
        (
            |case| {
                let cgroup_parent = "/kubepods".to_owned();
                let linux = LinuxPodSandboxConfig { cgroup_parent, ..Default::default() };
                case.pod.linux = Some(linux);
            },
            "resource cgroup_parent: \"/kubepods\": no slice",
        ),
    ];
    for (change, reason) in changes {
        let mut case = Case::new(Runtime::Machine);
        change(&mut case);
        let error = case.made().unwrap_err().to_string();
        assert!(error.starts_with(reason), "{error}");
    }
}

#[test]
fn pod_is_checked_before_anything_of_it_is_made() {
    use protocol::cri::{NamespaceOption, UserNamespace};
    let machine = HandlerConfig::new(Runtime::Machine);
    let with = |options: NamespaceOption| {
        let namespace_options = Some(options);
        let security_context =
            Some(LinuxSandboxSecurityContext { namespace_options, ..Default::default() });
        let linux = Some(LinuxPodSandboxConfig { security_context, ..Default::default() });
        PodSandboxConfig { linux, ..PodSandboxConfig::default() }
    };
    check_pod(&PodSandboxConfig::default(), &machine).unwrap();
    let network = NamespaceMode::Node.into();
    let refused = check_pod(&with(NamespaceOption { network, ..Default::default() }), &machine);
    assert!(refused.unwrap_err().to_string().contains("hostNetwork"));
    for mode in [NamespaceMode::Container, NamespaceMode::Target, NamespaceMode::Pod] {
        // The last one without a mapping.
        let users = UserNamespace { mode: mode.into(), ..UserNamespace::default() };
        let options = NamespaceOption { userns_options: Some(users), ..Default::default() };
        let refused = check_pod(&with(options), &machine).unwrap_err();
        assert!(refused.to_string().contains("user"), "{refused}");
    }
}
