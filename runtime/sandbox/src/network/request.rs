//! What the guest is told of its network (pure).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use agent_api::network::{ApplyRequest, Interface as RpcInterface};
use network::{Interface, Kind, Plan};
use vmm_api::Window;

/// A plan as the agent wants it, without interfaces that have no window yet and without parameters
/// that the pod sets itself.
pub(super) fn describe(plan: &Plan, windows: &BTreeMap<u32, Window>, own: &Own) -> ApplyRequest {
    let objects = |kind| {
        let objects = plan.objects.iter().filter(|object| object.kind() == kind);
        objects.map(network::Object::to_bytes).collect::<Vec<_>>()
    };
    let interface = |interface: &Interface| {
        let Interface { link, mac, parameters } = interface;
        let parameters = parameters.clone().into_iter();
        let others = parameters.filter(|(file, _)| !own.names(&file.replace('*', &link.name)));
        Some(RpcInterface {
            index: link.index,
            window: windows.get(&link.index)?.index().into(),
            name: link.name.clone(),
            mac: mac.to_vec(),
            mtu: link.mtu,
            tx_queue_length: link.tx_queue_length,
            flags: link.flags,
            parameters: others.collect(),
            ..RpcInterface::default()
        })
    };
    ApplyRequest {
        interfaces: plan.interfaces.iter().filter_map(interface).collect(),
        addresses: objects(Kind::Address),
        neighbours: objects(Kind::Neighbour),
        routes: objects(Kind::Route),
        rules: objects(Kind::Rule),
        ..ApplyRequest::default()
    }
}

/// The pod's own kernel parameters of its network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    sysctls: BTreeMap<String, String>,
    files: BTreeSet<String>,
}

/// Two files below /proc/sys/net that are one parameter.
const ALIASES: [&str; 2] = ["ipv4/ip_forward", "ipv4/conf/all/forwarding"];

impl Own {
    /// Takes those of the network out of a pod's `sysctls`.
    pub(crate) fn take(sysctls: &mut BTreeMap<String, String>) -> Self {
        let mut own = Self::default();
        sysctls.retain(|name, value| {
            let Some(file) = file(name) else { return true };
            own.files.insert(file);
            own.sysctls.insert(name.clone(), value.clone());
            false
        });
        if ALIASES.iter().any(|file| own.files.contains(*file)) {
            own.files.extend(ALIASES.map(str::to_owned));
        }
        own
    }

    fn names(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    /// As the agent wants them.
    pub(super) fn sysctls(&self) -> HashMap<String, String> {
        self.sysctls.clone().into_iter().collect()
    }

    /// The namespace's parameters (by files) without these.
    pub(super) fn others(&self, parameters: BTreeMap<String, String>) -> HashMap<String, String> {
        parameters.into_iter().filter(|(file, _)| !self.names(file)).collect()
    }
}

/// The file below /proc/sys/net of a sysctl of the network. As for sysctl(8), the first separator
/// decides which one it is; the other stands for itself swapped.
fn file(name: &str) -> Option<String> {
    let rest = name.strip_prefix("net")?;
    if let Some(path) = rest.strip_prefix('/') {
        return Some(path.to_owned());
    }
    let swapped = rest.strip_prefix('.')?.chars().map(|letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    Some(swapped.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).into(), "1".into())).collect()
    }

    #[test]
    fn what_a_pod_sets_itself_is_not_overwritten() {
        let mut all = map(&[
            "net.ipv4.ip_unprivileged_port_start",
            "net/core/somaxconn",
            "net.ipv4.conf.all.forwarding",
            "kernel.a",
        ]);
        let own = Own::take(&mut all);
        assert_eq!(all, map(&["kernel.a"]));
        assert_eq!(own.sysctls().len(), 3);
        let files = map(&[
            "ipv4/ip_unprivileged_port_start",
            "core/somaxconn",
            "ipv4/ip_forward",
            "ipv4/conf/all/rp_filter",
        ]);
        let left: Vec<_> = own.others(files).into_keys().collect();
        assert_eq!(left, ["ipv4/conf/all/rp_filter"]);
    }

    #[test]
    fn interfaces_own_parameters_are_found_by_the_name() {
        let own = Own::take(&mut map(&[
            "net.ipv4.conf.eth0.arp_ignore",
            "net.ipv4.conf.eth0/1.arp_filter",
            "net/ipv6/conf/a.b/mtu",
        ]));
        for file in ["ipv4/conf/eth0/arp_ignore", "ipv4/conf/eth0.1/arp_filter"] {
            assert!(own.names(file), "{file}");
        }
        assert!(own.names("ipv6/conf/a.b/mtu"));
        assert!(!own.names("ipv4/conf/net1/arp_ignore"));
    }
}
