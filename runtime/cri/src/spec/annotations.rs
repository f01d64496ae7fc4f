//! Annotations of a configuration: containerd's own, which shims and monitors read, and those of
//! the pod and the container that a handler lets through.

use std::collections::HashMap;

use glob::{MatchOptions, Pattern};
use protocol::cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};

use super::input::HandlerConfig;

/// What our own keys begin with. Nobody else sets them.
const OURS: &str = "dev.cuddy.";

/// `*` stays within one part of a key.
const MATCH: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The annotations of a container's configuration.
pub(super) fn of_container(
    pod: &PodSandboxConfig,
    pod_id: &str,
    container: &ContainerConfig,
    handler: &HandlerConfig,
) -> HashMap<String, String> {
    let mut all = passed(&pod.annotations, &handler.pod_annotations);
    all.extend(passed(&container.annotations, &handler.container_annotations));
    let name = container.metadata.as_ref().map_or("", |metadata| &metadata.name);
    let image = container.image.as_ref();
    let image = image.map_or("", |image| match image.user_specified_image.as_str() {
        "" => &image.image,
        named => named,
    });
    all.extend(of_pod(pod, pod_id));
    all.extend(texts(&[
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.container-name", name),
        ("io.kubernetes.cri.image-name", image),
    ]));
    all
}

/// The annotations of a sandbox container's configuration.
pub(super) fn of_sandbox(
    pod: &PodSandboxConfig,
    pod_id: &str,
    image: &str,
    handler: &HandlerConfig,
) -> HashMap<String, String> {
    let mut all = passed(&pod.annotations, &handler.pod_annotations);
    all.extend(of_pod(pod, pod_id));
    all.extend(texts(&[
        ("io.kubernetes.cri.container-type", "sandbox"),
        ("io.kubernetes.cri.sandbox-log-directory", &pod.log_directory),
        ("io.kubernetes.cri.podsandbox.image-name", image),
    ]));
    if let Some(resources) = pod.linux.as_ref().and_then(|linux| linux.resources.as_ref()) {
        all.extend(of_limits(resources));
    }
    all
}

fn of_pod(pod: &PodSandboxConfig, id: &str) -> Vec<(String, String)> {
    let metadata = pod.metadata.clone().unwrap_or_default();
    texts(&[
        ("io.kubernetes.cri.sandbox-id", id),
        ("io.kubernetes.cri.sandbox-name", &metadata.name),
        ("io.kubernetes.cri.sandbox-namespace", &metadata.namespace),
        ("io.kubernetes.cri.sandbox-uid", &metadata.uid),
    ])
}

/// The sum of the containers' limits, by which shims size machines; 0 where there is none.
fn of_limits(resources: &LinuxContainerResources) -> Vec<(String, String)> {
    let limits = [
        ("io.kubernetes.cri.sandbox-cpu-period", resources.cpu_period),
        ("io.kubernetes.cri.sandbox-cpu-quota", resources.cpu_quota),
        ("io.kubernetes.cri.sandbox-cpu-shares", resources.cpu_shares),
        ("io.kubernetes.cri.sandbox-memory", resources.memory_limit_in_bytes),
    ];
    limits.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect()
}

fn texts(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn passed(all: &HashMap<String, String>, patterns: &[Pattern]) -> HashMap<String, String> {
    let is_passed = |key: &str| {
        !key.starts_with(OURS) && patterns.iter().any(|pattern| pattern.matches_with(key, MATCH))
    };
    let kept = all.iter().filter(|(key, _)| is_passed(key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use protocol::cri::{ContainerMetadata, ImageSpec, LinuxPodSandboxConfig, PodSandboxMetadata};

    use super::super::input::Runtime;
    use super::*;

    fn map(list: &[(&str, &str)]) -> HashMap<String, String> {
        texts(list).into_iter().collect()
    }

    fn pod() -> PodSandboxConfig {
        let metadata = PodSandboxMetadata {
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            uid: "u1".to_owned(),
            attempt: 0,
        };
        PodSandboxConfig {
            metadata: Some(metadata),
            log_directory: "/var/log/pods/x".to_owned(),
            annotations: map(&[
                ("a.example/x", "1"),
                ("a.example/x/y", "2"),
                ("b.example/x", "3"),
                ("dev.cuddy.groups", "forged"),
                ("io.kubernetes.cri.container-type", "forged"),
            ]),
            ..PodSandboxConfig::default()
        }
    }

    fn handler() -> HandlerConfig {
        let patterns =
            |list: &[&str]| list.iter().map(|text| Pattern::new(text).unwrap()).collect();
        HandlerConfig {
            pod_annotations: patterns(&["a.example/*", "dev.*", "io.*"]),
            container_annotations: patterns(&["c.example/*"]),
            ..HandlerConfig::new(Runtime::Machine)
        }
    }

    #[test]
    fn container_is_told_as_containerd_does() {
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 1 }),
            image: Some(ImageSpec {
                image: "sha256:1".to_owned(),
                user_specified_image: "nginx".to_owned(),
                ..ImageSpec::default()
            }),
            annotations: map(&[("c.example/z", "4"), ("a.example/z", "5")]),
            ..ContainerConfig::default()
        };
        let found = of_container(&pod(), "p1", &container, &handler());
        let expected = map(&[
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.container-name", "main"),
            ("io.kubernetes.cri.image-name", "nginx"),
            ("io.kubernetes.cri.sandbox-id", "p1"),
            ("io.kubernetes.cri.sandbox-name", "web"),
            ("io.kubernetes.cri.sandbox-namespace", "shop"),
            ("io.kubernetes.cri.sandbox-uid", "u1"),
            ("a.example/x", "1"),
            ("c.example/z", "4"),
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn sandbox_is_told_the_limits_of_its_containers() {
        let mut pod = pod();
        let resources = LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            cpu_quota: -1,
            ..LinuxContainerResources::default()
        };
        pod.linux =
            Some(LinuxPodSandboxConfig { resources: Some(resources), ..Default::default() });
        let found = of_sandbox(&pod, "p1", "pause:3", &handler());
        for (key, value) in [
            ("container-type", "sandbox"),
            ("sandbox-memory", "67108864"),
            ("sandbox-cpu-quota", "-1"),
            ("sandbox-cpu-shares", "0"),
            ("sandbox-log-directory", "/var/log/pods/x"),
            ("podsandbox.image-name", "pause:3"),
        ] {
            assert_eq!(found[&format!("io.kubernetes.cri.{key}")], value);
        }
        pod.linux = None;
        let found = of_sandbox(&pod, "p1", "pause:3", &handler());
        assert!(!found.contains_key("io.kubernetes.cri.sandbox-memory"));
    }
}
