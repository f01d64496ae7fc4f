//! What a pod's sandbox tells the network's plugins. This module is pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::conf::is_name;
use crate::error::Error;
use crate::text::quoted;

/// Most bytes of an interface's name (`IFNAMSIZ`, without the end).
const MAX_INTERFACE: usize = 15;

/// A pod that is to be attached.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The sandbox's id.
    pub id: String,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// The name that its interface gets in there: `eth0`, everywhere.
    pub interface: String,
    /// The pod's namespace in Kubernetes.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// What plugins are told if they declare that they want to know it.
    pub capabilities: Capabilities,
}

impl Pod {
    /// The value of `CNI_ARGS`, as containerd gives it.
    ///
    /// # Errors
    /// [`Error::Argument`] if a plugin would misunderstand something.
    pub(crate) fn args(&self) -> Result<String, Error> {
        if !is_name(&self.id) {
            return Err(argument("the sandbox's id", &self.id));
        }
        if !is_interface(&self.interface) {
            return Err(argument("the interface's name", &self.interface));
        }
        let pairs = [
            ("K8S_POD_NAMESPACE", "the pod's namespace", &self.namespace),
            ("K8S_POD_NAME", "the pod's name", &self.name),
            ("K8S_POD_INFRA_CONTAINER_ID", "the sandbox's id", &self.id),
            ("K8S_POD_UID", "the pod's UID", &self.uid),
        ];
        let mut args = "IgnoreUnknown=1".to_owned();
        for (key, what, value) in pairs {
            if value.contains(|letter: char| letter.is_control() || ";=".contains(letter)) {
                return Err(argument(what, value));
            }
            args.push_str(&format!(";{key}={value}"));
        }
        Ok(args)
    }
}

fn argument(what: &'static str, value: &str) -> Error {
    Error::Argument { what, problem: format!("plugins can't be told '{}'", quoted(value)) }
}

/// As `dev_valid_name` of the kernel.
fn is_interface(name: &str) -> bool {
    let forbidden =
        |letter: char| letter.is_whitespace() || letter.is_control() || "/:".contains(letter);
    let fits = (1..=MAX_INTERFACE).contains(&name.len());
    fits && !matches!(name, "." | "..") && !name.contains(forbidden)
}

/// What a runtime knows of a pod (CNI's conventions, "Dynamic plugin specific fields"). A plugin is
/// told what it declares in its `capabilities`. What is empty is told to none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capabilities(Map<String, Value>);

/// A port of the node that leads to one of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The node's port; 0 for none, as Kubernetes says it.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// What is carried.
    pub protocol: Protocol,
    /// The node's only address that it is for; none for all.
    pub host_ip: Option<IpAddr>,
}

/// What carries a port's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A pod's share of the network, in bits per second; its bursts in bits. 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// To the pod.
    pub ingress_rate: u64,
    /// To the pod, at once.
    pub ingress_burst: u64,
    /// From the pod.
    pub egress_rate: u64,
    /// From the pod, at once.
    pub egress_burst: u64,
}

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers' addresses.
    pub nameservers: Vec<String>,
    /// The domain that short names are in.
    pub domain: String,
    /// Domains that short names are looked for in.
    pub search: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
}

impl Capabilities {
    /// Tells published ports: `portMappings`.
    #[must_use]
    pub fn port_mappings(self, ports: &[PortMapping]) -> Self {
        let entry = |port: &PortMapping| {
            let mut entry = json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol,
            });
            if let Some(address) = port.host_ip {
                entry["hostIP"] = address.to_string().into();
            }
            entry
        };
        let published: Vec<_> =
            ports.iter().filter(|port| port.host_port != 0).map(entry).collect();
        self.tell("portMappings", published.into())
    }

    /// Tells limits of traffic: `bandwidth`.
    #[must_use]
    pub fn bandwidth(self, limits: &Bandwidth) -> Self {
        let numbers = [
            ("ingressRate", limits.ingress_rate),
            ("ingressBurst", limits.ingress_burst),
            ("egressRate", limits.egress_rate),
            ("egressBurst", limits.egress_burst),
        ];
        let limited = numbers.into_iter().filter(|(_, number)| *number > 0);
        let map = limited.map(|(name, number)| (name.to_owned(), number.into()));
        self.tell("bandwidth", Value::Object(map.collect()))
    }

    /// Tells how the pod looks up names: `dns`. Its domain is no part of it.
    #[must_use]
    pub fn dns(self, dns: &Dns) -> Self {
        let lists =
            [("servers", &dns.nameservers), ("searches", &dns.search), ("options", &dns.options)];
        let map = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let map = map.map(|(name, list)| (name.to_owned(), list.clone().into()));
        self.tell("dns", Value::Object(map.collect()))
    }

    /// Asks for addresses: `ips`.
    #[must_use]
    pub fn ips(self, ips: &[IpNet]) -> Self {
        let texts: Vec<_> = ips.iter().map(ToString::to_string).collect();
        self.tell("ips", texts.into())
    }

    /// Asks for a hardware address, as `02:00:00:00:00:01`: `mac`.
    #[must_use]
    pub fn mac(self, mac: &str) -> Self {
        self.tell("mac", mac.into())
    }

    /// Tells other names of the pod: `aliases`.
    #[must_use]
    pub fn aliases(self, names: &[String]) -> Self {
        self.tell("aliases", names.into())
    }

    /// Tells the pod's cgroup: `cgroupPath`.
    #[must_use]
    pub fn cgroup_path(self, path: &str) -> Self {
        self.tell("cgroupPath", path.into())
    }

    /// Tells the pod's annotations: `io.kubernetes.cri.pod-annotations`.
    #[must_use]
    pub fn annotations(self, annotations: &BTreeMap<String, String>) -> Self {
        let map = annotations.iter().map(|(key, value)| (key.clone(), value.clone().into()));
        self.tell("io.kubernetes.cri.pod-annotations", Value::Object(map.collect()))
    }

    fn tell(mut self, name: &str, value: Value) -> Self {
        let is_empty = match &value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if is_empty {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    pub(crate) fn map(&self) -> &Map<String, Value> {
        &self.0
    }

    pub(crate) fn of(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

#[cfg(test)]
mod tests;
