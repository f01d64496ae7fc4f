//! The network of the pods: a chain of CNI's plug-ins, as a small cluster has it.

use std::path::Path;

/// First two parts of all pods' IPv4 addresses.
pub const NETWORK_V4: &str = "10.88";

/// Beginning of all pods' IPv6 addresses.
pub const NETWORK_V6: &str = "fd00:88::";

/// The bridge of all pods.
pub(super) const BRIDGE: &str = "cni-cuddy";

/// Bridge with addresses of both families, host ports, firewall, bandwidth; `data` keeps what
/// addresses are in use.
pub fn conflist(data: &Path) -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "cuddy",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "ipMasq": true,
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
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            { "type": "firewall" },
            { "type": "bandwidth", "capabilities": { "bandwidth": true } },
        ],
    })
    .to_string()
}

/// Bridge with the addresses that kubelet tells the daemon, in the form of containerd's templates.
pub fn template(data: &Path) -> String {
    let bridge = serde_json::json!({
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
