//! What a test wants to run, as kubelet would say it. The configurations are public: whatever
//! has no function here is set there.

use std::sync::atomic::{AtomicU32, Ordering};

use super::api;
use super::cgroup::PARENT;
use crate::ctr::BUSYBOX;

/// Directory of all pods' logs.
const LOGS: &str = "/var/log/pods";

fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// A pod.
#[derive(Debug, Clone)]
pub struct PodSpec {
    /// The message; `linux` is always there, with a security context and namespace options.
    pub config: api::PodSandboxConfig,
    /// Name of the runtime's handler.
    pub handler: String,
}

impl PodSpec {
    /// A pod with the handler `cuddy`, a network and a cgroup of its own, processes not shared.
    pub fn new(name: &str) -> Self {
        let uid = format!("{name}-{}", unique());
        let namespaces = api::NamespaceOption {
            pid: api::NamespaceMode::Container.into(),
            ..Default::default()
        };
        let security = api::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces),
            ..Default::default()
        };
        let config = api::PodSandboxConfig {
            metadata: Some(api::PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid.clone(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: format!("{LOGS}/default_{name}_{uid}"),
            linux: Some(api::LinuxPodSandboxConfig {
                cgroup_parent: format!("{PARENT}/pod-{uid}"),
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        };
        Self { config, handler: "cuddy".to_owned() }
    }

    /// Another handler.
    #[must_use]
    pub fn handler(mut self, name: &str) -> Self {
        name.clone_into(&mut self.handler);
        self
    }

    /// Another host name.
    #[must_use]
    pub fn hostname(mut self, name: &str) -> Self {
        name.clone_into(&mut self.config.hostname);
        self
    }

    /// An annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.config.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A sysctl of the pod.
    ///
    /// # Panics
    /// When the test took `linux` away.
    #[must_use]
    pub fn sysctl(mut self, key: &str, value: &str) -> Self {
        let linux = self.config.linux.as_mut().unwrap();
        linux.sysctls.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A TCP port of the host that leads to one of the pod.
    #[must_use]
    pub fn host_port(mut self, host: i32, container: i32) -> Self {
        self.config.port_mappings.push(api::PortMapping {
            protocol: api::Protocol::Tcp.into(),
            container_port: container,
            host_port: host,
            host_ip: String::new(),
        });
        self
    }

    /// Resolver configuration.
    #[must_use]
    pub fn dns(mut self, servers: &[&str], searches: &[&str], options: &[&str]) -> Self {
        self.config.dns_config = Some(api::DnsConfig {
            servers: strings(servers),
            searches: strings(searches),
            options: strings(options),
        });
        self
    }

    /// The namespaces.
    ///
    /// # Panics
    /// When the test took them away.
    pub fn namespaces(&mut self) -> &mut api::NamespaceOption {
        let linux = self.config.linux.as_mut().unwrap();
        linux.security_context.as_mut().unwrap().namespace_options.as_mut().unwrap()
    }

    /// One process namespace for all containers (`shareProcessNamespace`). Containers have to be
    /// created with [`ContainerSpec::shared_processes`].
    #[must_use]
    pub fn shared_processes(mut self) -> Self {
        self.namespaces().set_pid(api::NamespaceMode::Pod);
        self
    }

    /// What the kubelet sums up over the containers: memory in bytes, CPU in thousandths.
    ///
    /// # Panics
    /// When the test took `linux` away.
    #[must_use]
    pub fn resources(mut self, memory: i64, milli_cpus: i64) -> Self {
        let resources = api::LinuxContainerResources {
            memory_limit_in_bytes: memory,
            cpu_period: 100_000,
            cpu_quota: milli_cpus * 100,
            cpu_shares: milli_cpus * 1024 / 1000,
            ..Default::default()
        };
        self.config.linux.as_mut().unwrap().resources = Some(resources);
        self
    }
}

/// A container.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// The message; `linux` is always there, with resources, a security context and namespace
    /// options.
    pub config: api::ContainerConfig,
}

impl ContainerSpec {
    /// A container of the small image that runs a program of it.
    pub fn new(name: &str, command: &[&str]) -> Self {
        let namespaces = api::NamespaceOption {
            pid: api::NamespaceMode::Container.into(),
            ..Default::default()
        };
        let security = api::LinuxContainerSecurityContext {
            namespace_options: Some(namespaces),
            ..Default::default()
        };
        let image = api::ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() };
        let config = api::ContainerConfig {
            metadata: Some(api::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(image),
            command: strings(command),
            log_path: format!("{name}-0.log"),
            linux: Some(api::LinuxContainerConfig {
                resources: Some(api::LinuxContainerResources::default()),
                security_context: Some(security),
            }),
            ..Default::default()
        };
        Self { config }
    }

    /// A container of the small image that runs a script.
    pub fn shell(name: &str, script: &str) -> Self {
        Self::new(name, &["sh", "-c", script])
    }

    /// A container of the small image that stays until it is asked to end.
    pub fn idle(name: &str) -> Self {
        Self::shell(name, "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done")
    }

    /// The next attempt, as kubelet restarts a container: 1 after the first.
    ///
    /// # Panics
    /// When the test took the metadata away.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        let metadata = self.config.metadata.as_mut().unwrap();
        metadata.attempt = attempt;
        self.config.log_path = format!("{}-{attempt}.log", metadata.name);
        self
    }

    /// Another image; its command runs unless one was given.
    #[must_use]
    pub fn image(mut self, name: &str) -> Self {
        let image = api::ImageSpec { image: name.to_owned(), ..Default::default() };
        self.config.image = Some(image);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.config.envs.push(api::KeyValue { key: key.to_owned(), value: value.into() });
        self
    }

    /// A mount of a host path, private, read-write.
    #[must_use]
    pub fn mount(self, host: &std::path::Path, container: &str) -> Self {
        self.mounted(api::Mount {
            container_path: container.to_owned(),
            host_path: host.to_str().unwrap_or_default().to_owned(),
            ..Default::default()
        })
    }

    /// The same, read-only.
    #[must_use]
    pub fn mount_read_only(self, host: &std::path::Path, container: &str) -> Self {
        self.mounted(api::Mount {
            container_path: container.to_owned(),
            host_path: host.to_str().unwrap_or_default().to_owned(),
            readonly: true,
            ..Default::default()
        })
    }

    /// A mount of the caller's making.
    #[must_use]
    pub fn mounted(mut self, mount: api::Mount) -> Self {
        self.config.mounts.push(mount);
        self
    }

    /// Standard input that [`super::stream`] can attach to; it ends with the first attach's.
    #[must_use]
    pub fn stdin(mut self) -> Self {
        self.config.stdin = true;
        self.config.stdin_once = true;
        self
    }

    /// A terminal.
    #[must_use]
    pub fn tty(mut self) -> Self {
        self.config.tty = true;
        self
    }

    /// The limits.
    ///
    /// # Panics
    /// When the test took them away.
    pub fn limits(&mut self) -> &mut api::LinuxContainerResources {
        self.config.linux.as_mut().unwrap().resources.as_mut().unwrap()
    }

    /// A memory limit in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: i64) -> Self {
        self.limits().memory_limit_in_bytes = bytes;
        self
    }

    /// The security context.
    ///
    /// # Panics
    /// When the test took it away.
    pub fn security(&mut self) -> &mut api::LinuxContainerSecurityContext {
        self.config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
    }

    /// The namespaces.
    ///
    /// # Panics
    /// When the test took them away.
    pub fn namespaces(&mut self) -> &mut api::NamespaceOption {
        self.security().namespace_options.as_mut().unwrap()
    }

    /// A seccomp profile; `file` on the host is that of the type `Localhost`.
    #[must_use]
    pub fn seccomp(mut self, kind: api::security_profile::ProfileType, file: &str) -> Self {
        let localhost_ref = file.to_owned();
        let profile_type = kind.into();
        self.security().seccomp = Some(api::SecurityProfile { profile_type, localhost_ref });
        self
    }

    /// In the pod's process namespace; see [`PodSpec::shared_processes`].
    #[must_use]
    pub fn shared_processes(mut self) -> Self {
        self.namespaces().set_pid(api::NamespaceMode::Pod);
        self
    }

    /// In another container's process namespace, as an ephemeral container is.
    #[must_use]
    pub fn target(mut self, container: &super::Container) -> Self {
        let namespaces = self.namespaces();
        namespaces.set_pid(api::NamespaceMode::Target);
        namespaces.target_id = container.id.clone();
        self
    }

    /// Runs as this user and group.
    #[must_use]
    pub fn user(mut self, user: i64, group: i64) -> Self {
        let security = self.security();
        security.run_as_user = Some(api::Int64Value { value: user });
        security.run_as_group = Some(api::Int64Value { value: group });
        self
    }
}
