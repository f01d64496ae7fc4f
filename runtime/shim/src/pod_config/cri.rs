//! The part of the container runtime interface (`runtime.v1`, api.proto) in which containerd tells
//! the Sandbox service what a pod is. Numbers and names of fields are the interface's; what is not
//! used here is left out.

use std::collections::BTreeMap;

/// What a pod is to be.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PodSandboxConfig {
    #[prost(string, tag = "2")]
    pub(super) hostname: String,
    #[prost(message, optional, tag = "4")]
    pub(super) dns_config: Option<DnsConfig>,
    #[prost(message, optional, tag = "8")]
    pub(super) linux: Option<LinuxPodSandboxConfig>,
}

/// What its resolv.conf(5) says.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DnsConfig {
    #[prost(string, repeated, tag = "1")]
    pub(super) servers: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) searches: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(super) options: Vec<String>,
}

/// What is Linux's own.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    pub(super) cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub(super) security_context: Option<LinuxSandboxSecurityContext>,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) sysctls: BTreeMap<String, String>,
    /// Of all containers together.
    #[prost(message, optional, tag = "5")]
    pub(super) resources: Option<LinuxContainerResources>,
}

/// Who its processes are.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LinuxSandboxSecurityContext {
    #[prost(message, optional, tag = "1")]
    pub(super) namespace_options: Option<NamespaceOption>,
}

/// Whose a namespace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum NamespaceMode {
    Pod = 0,
    Container = 1,
    Node = 2,
    Target = 3,
}

/// Whose the namespaces are.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct NamespaceOption {
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pub(super) pid: i32,
    #[prost(message, optional, tag = "5")]
    pub(super) userns_options: Option<UserNamespace>,
}

/// Users of its containers; their ids are said again with each container.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct UserNamespace {
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    pub(super) mode: i32,
}

/// Limits; 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct LinuxContainerResources {
    /// Microseconds.
    #[prost(int64, tag = "1")]
    pub(super) cpu_period: i64,
    /// Microseconds in each period.
    #[prost(int64, tag = "2")]
    pub(super) cpu_quota: i64,
    /// Bytes.
    #[prost(int64, tag = "4")]
    pub(super) memory_limit_in_bytes: i64,
}
