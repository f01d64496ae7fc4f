//! What the guest is told of its network (pure).

use std::collections::{BTreeMap, HashMap};

use agent_api::network::{ApplyRequest, Interface as RpcInterface};
use network::{Interface, Kind, Plan};
use vmm_api::Window;

/// A plan as the agent wants it, without interfaces that have no window yet.
pub(super) fn describe(plan: &Plan, windows: &BTreeMap<u32, Window>) -> ApplyRequest {
    let objects = |kind| {
        let objects = plan.objects.iter().filter(|object| object.kind() == kind);
        objects.map(network::Object::to_bytes).collect::<Vec<_>>()
    };
    let interface = |interface: &Interface| {
        let Interface { link, mac, parameters } = interface;
        Some(RpcInterface {
            index: link.index,
            window: windows.get(&link.index)?.index().into(),
            name: link.name.clone(),
            mac: mac.to_vec(),
            mtu: link.mtu,
            tx_queue_length: link.tx_queue_length,
            flags: link.flags,
            parameters: parameters.clone().into_iter().collect(),
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

/// The namespace's parameters (files) without those that the pod's own sysctls (names) set.
pub(super) fn without_own(
    parameters: BTreeMap<String, String>,
    sysctls: &BTreeMap<String, String>,
) -> HashMap<String, String> {
    let is_own = |file: &String| {
        let names = sysctls.keys().filter_map(|name| name.strip_prefix("net"));
        // sysctl(8) takes both separators.
        names.map(|name| name.replace('.', "/")).any(|name| name.strip_prefix('/') == Some(file))
    };
    parameters.into_iter().filter(|(file, _)| !is_own(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_sets_itself_is_not_overwritten() {
        let map = |names: &[&str]| names.iter().map(|name| ((*name).into(), "1".into())).collect();
        let own = map(&["net.ipv4.ip_unprivileged_port_start", "net/core/somaxconn", "kernel.a"]);
        let files =
            map(&["ipv4/ip_unprivileged_port_start", "core/somaxconn", "ipv4/conf/all/rp_filter"]);
        let left: Vec<_> = without_own(files, &own).into_keys().collect();
        assert_eq!(left, ["ipv4/conf/all/rp_filter"]);
    }
}
