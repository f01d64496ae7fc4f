//! CNI plugins that give a pod other interfaces than a bridge's veth.

use harness::ctr::BUSYBOX;
use harness::eventually;
use serde_json::{Value, json};

use super::netns::{Netns, exec, sh};
use super::{HTTPD, address, end, get, serve_once};

/// A wire of the node: `cni-m` is what a plugin uses, `cni-n` the node's own end.
struct Wire;

impl Wire {
    fn new(prepare: &str) -> Self {
        sh(&format!(
            "modprobe -a macvlan ipvlan 8021q; ip link add cni-m type veth peer name cni-n && \
             ip link set cni-m up && ip link set cni-n up && {prepare}"
        ));
        Self
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        sh("ip link del cni-n");
    }
}

/// Fixed addresses, of which .1 is the node's.
fn fixed(subnet: u8) -> Value {
    let address = format!("10.{subnet}.0.2/24");
    let gateway = format!("10.{subnet}.0.1");
    json!({"type": "static", "addresses": [{"address": address, "gateway": gateway}],
        "routes": [{"dst": "0.0.0.0/0"}]})
}

/// The pod is reached from the node and reaches it.
fn is_connected(subnet: u8, plugins: &[Value]) {
    let mut netns = Netns::new();
    let result = netns.chain(plugins);
    let pod = address(&result, 0);
    let script = format!("{HTTPD} exec httpd -f -p 80");
    let container = netns.start(BUSYBOX, &[], &["sh", "-c", &script]);
    eventually("the guest serves", || get(&format!("{pod}:80")).is_ok());
    assert!(get(&format!("{pod}:80")).unwrap().contains("from the guest"), "{plugins:?}");
    let (url, served) = serve_once(&format!("10.{subnet}.0.1"), b"from the node".to_vec());
    let answer = exec(&container, &["timeout", "60", "wget", "-qO-", &url]);
    assert!(answer.contains("from the node"), "{plugins:?}");
    assert_eq!(served.join().unwrap().ip().to_string(), pod);
    netns.check(&result);
    end(netns, container);
}

#[test]
fn guests_behind_other_plugins_reach_and_are_reached() {
    let ipam = json!({"type": "host-local", "subnet": "10.41.0.0/24",
        "routes": [{"dst": "0.0.0.0/0"}]});
    is_connected(41, &[json!({"type": "ptp", "mtu": 1400, "ipam": ipam})]);

    let _wire = Wire::new("ip addr add 10.42.0.1/24 dev cni-n");
    let macvlan = json!({"type": "macvlan", "master": "cni-m", "mode": "bridge"});
    let with = |mut plugin: Value, subnet| {
        plugin["ipam"] = fixed(subnet);
        plugin
    };
    is_connected(42, &[with(macvlan, 42)]);
    is_connected(42, &[with(json!({"type": "ipvlan", "master": "cni-m", "mode": "l2"}), 42)]);
}

#[test]
fn guests_have_vlans_and_devices_of_the_node() {
    let wire = Wire::new(
        "ip link add link cni-n name cni-n.7 type vlan id 7 && \
         ip addr add 10.43.0.1/24 dev cni-n.7 && ip link set cni-n.7 up",
    );
    let vlan = json!({"type": "vlan", "master": "cni-m", "vlanId": 7, "ipam": fixed(43)});
    is_connected(43, &[vlan]);
    drop(wire);

    let _wire = Wire::new("ip addr add 10.44.0.1/24 dev cni-n");
    let device = json!({"type": "host-device", "device": "cni-m", "ipam": fixed(44)});
    is_connected(44, &[device]);
}
