//! The network of the pods: a bridge, or a chain of CNI's plug-ins as a small cluster has it.

use std::path::Path;

use serde_json::{Value, json};

/// First two parts of all pods' IPv4 addresses.
pub const NETWORK_V4: &str = "10.88";

/// Beginning of all pods' IPv6 addresses.
pub const NETWORK_V6: &str = "fd00:88::";

/// The bridge of all pods.
pub(super) const BRIDGE: &str = "cni-cuddy";

/// Bridge with addresses of both families; `data` keeps what addresses are in use. Each plug-in
/// costs the emulated lab a second of each pod, so that most tests have no more than this.
pub fn bridge(data: &Path) -> String {
    conflist(&[own_bridge(data)])
}

/// The same with masquerading, host ports, firewall and bandwidth.
pub fn chain(data: &Path) -> String {
    let mut bridge = own_bridge(data);
    bridge["ipMasq"] = true.into();
    conflist(&[
        bridge,
        json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
        json!({ "type": "firewall" }),
        json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
    ])
}

fn conflist(plugins: &[Value]) -> String {
    json!({ "cniVersion": "1.0.0", "name": "cuddy", "plugins": plugins }).to_string()
}

fn own_bridge(data: &Path) -> Value {
    json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "dataDir": data,
            "ranges": [
                [{ "subnet": format!("{NETWORK_V4}.0.0/16") }],
                [{ "subnet": format!("{NETWORK_V6}/64") }],
            ],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        },
    })
}

/// Bridge with the addresses that kubelet tells the daemon, in the form of containerd's templates.
pub fn template(data: &Path) -> String {
    let bridge = json!({
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": true,
        "ipMasq": true,
        "ipam": {
            "type": "host-local",
            "dataDir": data,
            "ranges": "RANGES",
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    let ranges = "[{{range $n, $range := .PodCIDRRanges}}{{if $n}}, {{end}}\
                  [{ \"subnet\": \"{{$range}}\" }]{{end}}]";
    let plugins = bridge.to_string().replace("\"RANGES\"", ranges);
    format!("{{\"cniVersion\": \"1.0.0\", \"name\": \"cuddy\", \"plugins\": [{plugins}]}}")
}
