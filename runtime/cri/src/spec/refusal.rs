//! What a pod or a container asks of a machine that no machine gives, before anything is made.
//! The text ends up in the pod's events.

use protocol::cri::{
    ContainerConfig, MountPropagation, NamespaceMode, NamespaceOption, PodSandboxConfig,
};

use super::error::shown;
use super::input::Runtime;

/// Why the handler refuses this pod, or this container of it; none if it does not.
pub fn refusal(
    runtime: Runtime,
    pod: &PodSandboxConfig,
    container: Option<&ContainerConfig>,
) -> Option<String> {
    let context = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    if let Some(container) = container {
        let own = container.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let privileged = own.is_some_and(|context| context.privileged);
        if privileged && !context.is_some_and(|context| context.privileged) {
            return Some("no privileged container allowed in sandbox".to_owned());
        }
        if runtime == Runtime::Machine {
            let options = own.and_then(|context| context.namespace_options.as_ref());
            return options.and_then(of_node).or_else(|| of_mounts(container));
        }
        return None;
    }
    let options = context.and_then(|context| context.namespace_options.as_ref());
    options.filter(|_| runtime == Runtime::Machine).and_then(of_node)
}

/// Whether a pod needs the node itself: one of its namespaces, or its devices and mounts, which
/// privilege is asked for.
pub fn needs_node(pod: &PodSandboxConfig) -> bool {
    let context = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.is_some_and(|context| context.privileged)
        || refusal(Runtime::Machine, pod, None).is_some()
}

/// Namespaces of the node.
fn of_node(options: &NamespaceOption) -> Option<String> {
    let node = i32::from(NamespaceMode::Node);
    let asked = [
        (options.network, "hostNetwork", "network"),
        (options.pid, "hostPID", "processes"),
        (options.ipc, "hostIPC", "IPC"),
    ];
    let (_, field, what) = asked.into_iter().find(|(mode, ..)| *mode == node)?;
    Some(format!(
        "{field}: a machine can't share the node's {what}; use a RuntimeClass whose handler runs \
         containers on the node (runc)"
    ))
}

/// Mounts that the node would have to see.
fn of_mounts(container: &ContainerConfig) -> Option<String> {
    let both = i32::from(MountPropagation::PropagationBidirectional);
    let mount = container.mounts.iter().find(|mount| mount.propagation == both)?;
    Some(format!(
        "mount at \"{}\": mounts made in a machine can't propagate to the node (Bidirectional); \
         use HostToContainer or None, or a RuntimeClass whose handler is runc",
        shown(&mount.container_path)
    ))
}

#[cfg(test)]
mod tests {
    use protocol::cri::{
        LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
        LinuxSandboxSecurityContext, Mount,
    };

    use super::*;

    fn pod(options: NamespaceOption, privileged: bool) -> PodSandboxConfig {
        let namespace_options = Some(options);
        let context =
            LinuxSandboxSecurityContext { namespace_options, privileged, ..Default::default() };
        let linux = LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() };
        PodSandboxConfig { linux: Some(linux), ..Default::default() }
    }

    fn container(options: NamespaceOption, privileged: bool) -> ContainerConfig {
        let namespace_options = Some(options);
        let context =
            LinuxContainerSecurityContext { namespace_options, privileged, ..Default::default() };
        let linux = LinuxContainerConfig { security_context: Some(context), ..Default::default() };
        ContainerConfig { linux: Some(linux), ..Default::default() }
    }

    #[test]
    fn namespaces_of_the_node_are_runcs() {
        let options =
            |network, pid, ipc| NamespaceOption { network, pid, ipc, ..Default::default() };
        for (options, field) in [
            (options(2, 0, 0), Some("hostNetwork: ")),
            (options(0, 2, 0), Some("hostPID: ")),
            (options(0, 1, 2), Some("hostIPC: ")),
            (options(0, 1, 0), None),
            (options(0, 3, 0), None),
        ] {
            let (pod, own) = (pod(options.clone(), false), container(options, false));
            for asked in [None, Some(&own)] {
                assert_eq!(refusal(Runtime::Runc, &pod, asked), None);
                let found = refusal(Runtime::Machine, &pod, asked);
                assert_eq!(found.is_some(), field.is_some());
                assert!(found.is_none_or(|text| text.starts_with(field.unwrap())));
            }
        }
        assert_eq!(refusal(Runtime::Machine, &PodSandboxConfig::default(), None), None);
    }

    #[test]
    fn privileged_container_needs_a_privileged_pod() {
        let own = container(NamespaceOption::default(), true);
        for runtime in [Runtime::Machine, Runtime::Runc] {
            let refused = refusal(runtime, &pod(NamespaceOption::default(), false), Some(&own));
            assert_eq!(refused.as_deref(), Some("no privileged container allowed in sandbox"));
            assert_eq!(refusal(runtime, &pod(NamespaceOption::default(), true), Some(&own)), None);
        }
    }

    #[test]
    fn privilege_and_namespaces_of_the_node_need_the_node() {
        let network = |network| NamespaceOption { network, ..NamespaceOption::default() };
        assert!(needs_node(&pod(network(2), false)));
        assert!(needs_node(&pod(network(0), true)));
        assert!(!needs_node(&pod(network(0), false)));
        assert!(!needs_node(&PodSandboxConfig::default()));
    }

    #[test]
    fn mounts_for_the_node_are_runcs() {
        let mut own = container(NamespaceOption::default(), false);
        let mount = Mount { container_path: "/csi".into(), propagation: 2, ..Default::default() };
        own.mounts = vec![mount];
        let pod = pod(NamespaceOption::default(), false);
        let text = refusal(Runtime::Machine, &pod, Some(&own)).unwrap();
        assert!(text.starts_with("mount at \"/csi\": "), "{text}");
        assert_eq!(refusal(Runtime::Runc, &pod, Some(&own)), None);
    }
}
