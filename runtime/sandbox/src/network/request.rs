//! What the guest is told of its network (pure).

use std::collections::BTreeMap;

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
