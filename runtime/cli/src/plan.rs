//! What `cuddy run` asks the daemon for: a pod with one container in it (pure).

use std::collections::HashMap;

use protocol::cri::security_profile::ProfileType;
use protocol::cri::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, PortMapping, SecurityProfile,
};

use crate::client::NAME;
use crate::human::PERIOD;
use crate::options::{port, restart};

/// Namespace of the pods, in the interface's sense.
pub(crate) const NAMESPACE: &str = "cuddy";

/// Label of a pod that exists for its one container's sake.
pub(crate) const OWN: &str = "cuddy.run";

/// Annotation with a container's ports, for people.
pub(crate) const PORTS: &str = "cuddy.ports";

/// Annotation of a pod that the daemon ends with the last of its containers.
const ENDS: &str = "dev.cuddy.ends-with-containers";

/// Annotation by which the daemon knows a terminal's size before the process can look.
const TERMINAL_SIZE: &str = "dev.cuddy.terminal-size";

/// Name of a container's log in the directory of its own pod.
pub(crate) const LOG: &str = "0.log";

/// Files of the kernel that a container does not see, as Kubernetes has them.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Files of the kernel that a container does not write, as Kubernetes has them.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a user asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// The container's name, and its pod's.
    pub(crate) name: String,
    /// What no other run has.
    pub(crate) nonce: String,
    /// Directory for its log.
    pub(crate) logs: String,
    /// Its host's name; empty: the container's name.
    pub(crate) hostname: String,
    /// The image as the user wrote it.
    pub(crate) image: String,
    /// What is executed in place of the image's entrypoint.
    pub(crate) entrypoint: Option<String>,
    /// What is executed in place of the image's command.
    pub(crate) args: Vec<String>,
    /// The directory it starts in; empty: the image's.
    pub(crate) directory: String,
    /// Its variables.
    pub(crate) envs: Vec<KeyValue>,
    /// Directories of the host.
    pub(crate) mounts: Vec<Mount>,
    /// Ports of the host.
    pub(crate) ports: Vec<PortMapping>,
    /// Labels of the user's.
    pub(crate) labels: Vec<(String, String)>,
    /// As whom it runs, and whether it may write to its root.
    pub(crate) security: LinuxContainerSecurityContext,
    /// Most bytes of memory; 0: no limit.
    pub(crate) memory: i64,
    /// Most microseconds of CPU time in each [`PERIOD`]; 0: no limit.
    pub(crate) cpus: i64,
    /// When the daemon starts it again, as the daemon reads it; none: never.
    pub(crate) restart: Option<String>,
    /// Whether it goes into the pod of another container.
    pub(crate) joins: bool,
    /// Whether it reads.
    pub(crate) stdin: bool,
    /// Whether it has a terminal.
    pub(crate) tty: bool,
    /// The terminal's first size, in columns and rows.
    pub(crate) size: Option<(u16, u16)>,
}

impl Plan {
    /// The pod.
    pub(crate) fn pod(&self) -> PodSandboxConfig {
        let hostname = if self.hostname.is_empty() { &self.name } else { &self.hostname };
        let mut labels = self.labels();
        labels.insert(OWN.to_owned(), self.nonce.clone());
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: self.name.clone(),
                // The daemon takes no two pods of the same uid, so no two have the same name.
                uid: format!("cuddy-{}", self.name),
                namespace: NAMESPACE.to_owned(),
                attempt: 0,
            }),
            hostname: hostname.clone(),
            log_directory: self.logs.clone(),
            port_mappings: self.ports.clone(),
            labels,
            annotations: [(ENDS.to_owned(), "true".to_owned())].into(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..LinuxSandboxSecurityContext::default()
                }),
                resources: Some(self.resources()),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    /// The container, which runs the image of this id.
    pub(crate) fn container(&self, image_id: &str) -> ContainerConfig {
        let image = ImageSpec {
            image: image_id.to_owned(),
            user_specified_image: self.image.clone(),
            ..ImageSpec::default()
        };
        let ports: Vec<_> = self.ports.iter().map(port::shown).collect();
        let mut annotations = HashMap::new();
        if !ports.is_empty() {
            annotations.insert(PORTS.to_owned(), ports.join(", "));
        }
        if let Some((columns, rows)) = self.size.filter(|_| self.tty) {
            annotations.insert(TERMINAL_SIZE.to_owned(), format!("{columns}x{rows}"));
        }
        if let Some(policy) = &self.restart {
            annotations.insert(restart::ANNOTATION.to_owned(), policy.clone());
        }
        // The directory is the pod's, which is another one's.
        let log_path = match self.joins {
            true => format!("{}-{}.log", self.name, self.nonce),
            false => LOG.to_owned(),
        };
        let (command, args) = match self.entrypoint.as_deref() {
            None => (Vec::new(), self.args.clone()),
            // The image's entrypoint is taken away.
            Some("") => (self.args.clone(), Vec::new()),
            Some(program) => (vec![program.to_owned()], self.args.clone()),
        };
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: self.name.clone(), attempt: 0 }),
            image: Some(image),
            command,
            args,
            working_dir: self.directory.clone(),
            envs: self.envs.clone(),
            mounts: self.mounts.clone(),
            labels: self.labels(),
            annotations,
            log_path,
            stdin: self.stdin,
            // A terminal's input ends by a key, and goes on for who comes back to it.
            stdin_once: self.stdin && !self.tty,
            tty: self.tty,
            linux: Some(LinuxContainerConfig {
                resources: Some(self.resources()),
                security_context: Some(self.security()),
            }),
            ..ContainerConfig::default()
        }
    }

    fn labels(&self) -> HashMap<String, String> {
        let mut labels: HashMap<_, _> = self.labels.iter().cloned().collect();
        labels.insert(NAME.to_owned(), self.name.clone());
        labels
    }

    fn resources(&self) -> LinuxContainerResources {
        LinuxContainerResources {
            cpu_period: if self.cpus == 0 { 0 } else { PERIOD },
            cpu_quota: self.cpus,
            memory_limit_in_bytes: self.memory,
            ..LinuxContainerResources::default()
        }
    }

    fn security(&self) -> LinuxContainerSecurityContext {
        let words = |list: &[&str]| list.iter().map(|&path| path.to_owned()).collect();
        let seccomp = SecurityProfile {
            profile_type: ProfileType::RuntimeDefault.into(),
            ..SecurityProfile::default()
        };
        LinuxContainerSecurityContext {
            namespace_options: Some(namespaces()),
            masked_paths: words(&MASKED),
            readonly_paths: words(&READ_ONLY),
            seccomp: Some(seccomp),
            ..self.security.clone()
        }
    }
}

/// Each container has its own processes; the network is the pod's.
fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into(), ..NamespaceOption::default() }
}

/// What is wrong with a name for a container, if anything.
pub(crate) fn wrong_name(name: &str) -> Option<String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let good = name.bytes().all(letter)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() <= 63;
    (!good).then(|| {
        format!("{name:?} is no name: letters, digits, \"_\", \".\" and \"-\", 63 at most")
    })
}

/// A name for a container of which the user says none: the image's, and something random.
pub(crate) fn name(image: &str, random: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let last = last.split([':', '@']).next().unwrap_or_default();
    let last: String = last.chars().take(40).collect();
    let name = format!("{last}-{random}");
    if wrong_name(&name).is_none() { name } else { format!("run-{random}") }
}

#[cfg(test)]
mod tests;
