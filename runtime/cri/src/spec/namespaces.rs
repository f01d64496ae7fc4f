//! Namespaces. Those of the pod are named by the process that stands for it, as containerd does.
//! The shim of a machine takes them for the guest's.

use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType,
};
use protocol::cri::{IdMapping, NamespaceMode, NamespaceOption, UserNamespace};

use super::SpecError;
use super::input::HandlerConfig;

/// The maps of a user namespace: users, then groups.
pub(super) type Maps = (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

/// The mode of one of the namespaces.
///
/// # Errors
/// Nobody knows such a mode.
fn mode(kind: &'static str, number: i32) -> Result<NamespaceMode, SpecError> {
    let unknown = |_| bad(kind, &format!("mode {number} is unknown"));
    NamespaceMode::try_from(number).map_err(unknown)
}

/// The maps of a pod's user namespace; none where it has none.
///
/// # Errors
/// Maps that don't fit the mode, or that the handler can't have.
pub(super) fn users(
    asked: Option<&UserNamespace>,
    handler: &HandlerConfig,
) -> Result<Option<Maps>, SpecError> {
    let kind = "user";
    let Some(asked) = asked else { return Ok(None) };
    match mode(kind, asked.mode)? {
        NamespaceMode::Node if asked.uids.is_empty() && asked.gids.is_empty() => Ok(None),
        NamespaceMode::Node => Err(bad(kind, "mode NODE has no mappings")),
        NamespaceMode::Pod if !handler.user_namespaces => {
            Err(bad(kind, "the runtime handler does not support user namespaces"))
        }
        NamespaceMode::Pod => Ok(Some((map("UID", &asked.uids)?, map("GID", &asked.gids)?))),
        _ => Err(bad(kind, "only the modes POD and NODE are known")),
    }
}

/// One range, as the kubelet gives it: it starts at id 0.
fn map(what: &str, ranges: &[IdMapping]) -> Result<Vec<LinuxIdMapping>, SpecError> {
    let wrong = |reason: &str| Err(bad("user", &format!("{what} mapping: {reason}")));
    let [range] = ranges else {
        return wrong("exactly one range is needed in mode POD");
    };
    if range.container_id != 0 {
        return wrong("it leaves out id 0, as which a container is made");
    }
    let last = range.host_id.checked_add(range.length);
    if range.length == 0 || last.is_none() {
        return wrong("it is empty or goes beyond the highest id");
    }
    Ok(vec![mapping(range)])
}

/// The same range in OCI's words.
pub(super) fn mapping(range: &IdMapping) -> LinuxIdMapping {
    let mapping = LinuxIdMappingBuilder::default().host_id(range.host_id);
    let mapping = mapping.container_id(range.container_id).size(range.length);
    // The builder checks nothing, so it can't fail.
    mapping.build().unwrap_or_default()
}

/// What a container's namespaces depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    /// What the container says.
    pub(super) options: &'a NamespaceOption,
    /// What the pod says.
    pub(super) pod: &'a NamespaceOption,
    /// The process that stands for the pod.
    pub(super) pod_pid: u32,
    /// The process of the container whose process ids are shared.
    pub(super) target_pid: Option<u32>,
    /// Whether the container sees all cgroups.
    pub(super) all_cgroups: bool,
}

/// The namespaces of a container, and its maps.
///
/// # Errors
/// An unknown mode, a missing target, or other users than the pod's.
pub(super) fn of_container(
    wish: &Wish<'_>,
    handler: &HandlerConfig,
) -> Result<(Vec<LinuxNamespace>, Option<Maps>), SpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let Wish { options, pod, pod_pid, .. } = *wish;
    mode("network", options.network)?;
    mode("ipc", options.ipc)?;
    let own_pids = match mode("pid", options.pid)? {
        NamespaceMode::Container => None,
        NamespaceMode::Pod | NamespaceMode::Node => Some(pod_pid),
        NamespaceMode::Target => Some(wish.target_pid.ok_or_else(|| {
            bad("pid", "the target container has no process: it is not there or does not run")
        })?),
    };
    if options.userns_options != pod.userns_options {
        return Err(bad("user", "the container asks for another one than its pod"));
    }
    let users = users(options.userns_options.as_ref(), handler)?;
    let of = |pid: u32, kind: LinuxNamespaceType, file: &str| {
        namespace(kind, Some(format!("/proc/{pid}/ns/{file}").into()))
    };
    let mut namespaces = vec![
        namespace(Mount, None),
        own_pids.map_or_else(|| namespace(Pid, None), |pid| of(pid, Pid, "pid")),
        of(pod_pid, Network, "net"),
        of(pod_pid, Ipc, "ipc"),
        of(pod_pid, Uts, "uts"),
    ];
    if !wish.all_cgroups {
        namespaces.push(namespace(Cgroup, None));
    }
    if users.is_some() {
        namespaces.push(of(pod_pid, User, "user"));
    }
    Ok((namespaces, users))
}

/// The namespaces of a sandbox container, which its pod's containers join.
///
/// # Errors
/// An unknown mode, or a network namespace where there should be none, or the reverse.
pub(super) fn of_sandbox(
    options: &NamespaceOption,
    network: Option<&str>,
    made_users: Option<&str>,
    handler: &HandlerConfig,
) -> Result<(Vec<LinuxNamespace>, Option<Maps>), SpecError> {
    use LinuxNamespaceType::{Ipc, Mount, Network, Pid, User, Uts};
    let users = users(options.userns_options.as_ref(), handler)?;
    let mut namespaces = vec![namespace(Mount, None)];
    match (is_node("network", options.network)?, network) {
        (true, None) => {}
        (false, Some(path)) => {
            namespaces.push(namespace(Network, Some(path.into())));
            namespaces.push(namespace(Uts, None));
        }
        (true, Some(_)) => return Err(bad("network", "the pod is on the node's network")),
        (false, None) => return Err(bad("network", "the pod's own was not made")),
    }
    for (kind, name, number) in [(Pid, "pid", options.pid), (Ipc, "ipc", options.ipc)] {
        if !is_node(name, number)? {
            namespaces.push(namespace(kind, None));
        }
    }
    if users.is_some() {
        namespaces.push(namespace(User, made_users.map(Into::into)));
    }
    Ok((namespaces, users))
}

/// Whether a namespace is the node's.
///
/// # Errors
/// Nobody knows such a mode.
pub(super) fn is_node(kind: &'static str, number: i32) -> Result<bool, SpecError> {
    Ok(mode(kind, number)? == NamespaceMode::Node)
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}

fn bad(kind: &'static str, reason: &str) -> SpecError {
    SpecError::Namespace { kind, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::input::Runtime;
    use super::*;

    fn handler() -> HandlerConfig {
        HandlerConfig::new(Runtime::Runc)
    }

    /// `type` or `type=path`, in one line.
    fn told(found: Result<(Vec<LinuxNamespace>, Option<Maps>), SpecError>) -> String {
        let text = |namespace: &LinuxNamespace| match namespace.path() {
            Some(path) => format!("{}={}", namespace.typ(), path.display()),
            None => namespace.typ().to_string(),
        };
        match found {
            Ok((list, _)) => list.iter().map(text).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    fn container(options: NamespaceOption, all_cgroups: bool, target_pid: Option<u32>) -> String {
        let pod = options.clone();
        let wish = Wish { options: &options, pod: &pod, pod_pid: 7, target_pid, all_cgroups };
        told(of_container(&wish, &handler()))
    }

    #[test]
    fn container_joins_its_pod() {
        let pod = "net=/proc/7/ns/net ipc=/proc/7/ns/ipc uts=/proc/7/ns/uts";
        let options =
            |pid: NamespaceMode| NamespaceOption { pid: pid.into(), ..Default::default() };
        let own = container(options(NamespaceMode::Container), false, None);
        assert_eq!(own, format!("mnt pid {pod} cgroup"));
        let shared = container(options(NamespaceMode::Pod), true, None);
        assert_eq!(shared, format!("mnt pid=/proc/7/ns/pid {pod}"));
        assert_eq!(container(options(NamespaceMode::Node), true, None), shared);
        let target = container(options(NamespaceMode::Target), false, Some(9));
        assert_eq!(target, format!("mnt pid=/proc/9/ns/pid {pod} cgroup"));
        let missing = container(options(NamespaceMode::Target), false, None);
        assert!(missing.starts_with("pid namespace: the target container"), "{missing}");
        let unknown = NamespaceOption { ipc: 9, ..Default::default() };
        assert_eq!(container(unknown, false, None), "ipc namespace: mode 9 is unknown");
    }

    fn of_users(mode: NamespaceMode, uids: &[(u32, u32, u32)]) -> NamespaceOption {
        let range = |&(container_id, host_id, length): &(u32, u32, u32)| IdMapping {
            container_id,
            host_id,
            length,
        };
        let uids: Vec<_> = uids.iter().map(range).collect();
        let users = UserNamespace { mode: mode.into(), gids: uids.clone(), uids };
        NamespaceOption { userns_options: Some(users), ..Default::default() }
    }

    #[test]
    fn users_are_the_pods() {
        let options = of_users(NamespaceMode::Pod, &[(0, 65536, 65536)]);
        let wish = Wish {
            options: &options,
            pod: &options.clone(),
            pod_pid: 7,
            target_pid: None,
            all_cgroups: false,
        };
        let (list, maps) = of_container(&wish, &handler()).unwrap();
        assert_eq!(list.last().unwrap().path().as_deref(), Some("/proc/7/ns/user".as_ref()));
        let (uids, gids) = maps.unwrap();
        assert_eq!((uids[0].host_id(), uids[0].size(), &uids), (65536, 65536, &gids));
        let other = of_users(NamespaceMode::Pod, &[(0, 131_072, 65536)]);
        let error = told(of_container(&Wish { pod: &other, ..wish }, &handler()));
        assert!(error.contains("another one than its pod"), "{error}");
        let without = HandlerConfig { user_namespaces: false, ..handler() };
        assert!(told(of_container(&wish, &without)).contains("does not support"));
    }

    #[test]
    fn maps_have_one_range_from_0() {
        use NamespaceMode::{Container, Node, Pod};
        for (mode, ranges, reason) in [
            (Pod, &[][..], "exactly one range"),
            (Pod, &[(0, 1, 1), (1, 9, 1)], "exactly one range"),
            (Pod, &[(1, 1, 1)], "leaves out id 0"),
            (Pod, &[(0, 1, 0)], "it is empty"),
            (Pod, &[(0, u32::MAX, 2)], "beyond the highest id"),
            (Node, &[(0, 1, 1)], "mode NODE has no mappings"),
            (Container, &[], "only the modes POD and NODE"),
        ] {
            let options = of_users(mode, ranges);
            let error = users(options.userns_options.as_ref(), &handler()).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(users(of_users(Node, &[]).userns_options.as_ref(), &handler()), Ok(None));
    }

    #[test]
    fn sandbox_has_what_is_not_the_nodes() {
        let node = i32::from(NamespaceMode::Node);
        let sandbox = |network: i32, pid: i32, ipc: i32, path: Option<&str>| {
            let options = NamespaceOption { network, pid, ipc, ..Default::default() };
            told(of_sandbox(&options, path, None, &handler()))
        };
        let netns = Some("/run/netns/x");
        assert_eq!(sandbox(0, 1, 0, netns), "mnt net=/run/netns/x uts pid ipc");
        assert_eq!(sandbox(node, node, node, None), "mnt");
        assert!(sandbox(node, 0, 0, netns).contains("on the node's network"));
        assert!(sandbox(0, 0, 0, None).contains("was not made"));
        let options = of_users(NamespaceMode::Pod, &[(0, 1000, 10)]);
        let made = told(of_sandbox(&options, netns, Some("/run/users/x"), &handler()));
        assert!(made.ends_with("user=/run/users/x"), "{made}");
    }
}
