use serde_json::json;

use super::*;

fn parse(value: Value) -> Result<NetworkResult, String> {
    NetworkResult::parse(value.as_object().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// As a bridge's plugin answers: its own interfaces, and one of the pod.
fn usual(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "interfaces": [
            {"name": "cni0", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:02"},
            {"name": "eth0", "mac": "02:00:00:00:00:03", "sandbox": "/run/netns/a", "mtu": 1400},
            {"name": "net1", "sandbox": "/run/netns/a"},
        ],
        "ips": [
            {"version": "6", "address": "fd00::2/64", "gateway": "fd00::1", "interface": 2},
            {"version": "4", "address": "10.0.0.1/24", "interface": 0},
            {"version": "4", "address": "10.0.0.2/24", "gateway": "", "interface": 1},
            {"version": "4", "address": "10.0.0.3/24", "gateway": "10.0.0.1", "interface": 2},
            {"version": "4", "address": "10.1.0.3/24", "interface": 3},
            {"version": "4", "address": "10.0.0.4/24", "interface": 2},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1", "mtu": 1300,
            "advmss": 1200, "priority": 7, "table": 100, "scope": 253}],
        "dns": {"nameservers": ["10.0.0.1"], "domain": "a", "search": ["b"], "options": ["c"]},
    })
}

#[test]
fn lists_are_read_in_every_version_that_has_them() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let result = parse(usual(version)).unwrap();
        assert_eq!(result.interfaces[2].mtu, Some(1400));
        assert_eq!(result.addresses[0].gateway, Some(ip("fd00::1")));
        assert_eq!(result.addresses[2].gateway, None);
        assert_eq!(result.addresses[3].address, "10.0.0.3/24".parse().unwrap());
        assert_eq!(result.routes[0].gateway, None);
        let route = Route {
            destination: "::/0".parse().unwrap(),
            gateway: Some(ip("fd00::1")),
            mtu: Some(1300),
            advmss: Some(1200),
            priority: Some(7),
            table: Some(100),
            scope: Some(253),
        };
        assert_eq!(result.routes[1], route);
        assert_eq!(result.dns.search, ["b"]);
        assert_eq!(result.dns.domain, "a");
    }
}

#[test]
fn only_the_pods_own_interface_counts_and_ipv4_comes_first() {
    let result = parse(usual("1.0.0")).unwrap();
    let expected = ["10.0.0.3", "fd00::2", "10.0.0.4"].map(ip);
    assert_eq!(result.pod_addresses("eth0"), expected);
    assert_eq!(result.pod_addresses("net1"), [ip("10.1.0.3")]);
    let unsaid = parse(json!({"ips": [{"address": "10.0.0.2/24"}]})).unwrap();
    assert_eq!(unsaid.pod_addresses("eth0"), [ip("10.0.0.2")]);
    let six = parse(json!({"ips": [{"address": "fd00::2/64"}, {"address": "fd00::3/64"}]}));
    assert_eq!(six.unwrap().pod_addresses("eth0"), ["fd00::2", "fd00::3"].map(ip));
    assert!(parse(json!({})).unwrap().pod_addresses("eth0").is_empty());
}

#[test]
fn families_of_old_versions_are_read() {
    let result = parse(json!({
        "cniVersion": "0.2.0",
        "ip4": {"ip": "10.0.0.2/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
        "ip6": {"ip": "fd00::2/64", "routes": null},
        "dns": {"nameservers": ["10.0.0.1"]},
    }))
    .unwrap();
    assert_eq!(result.pod_addresses("eth0"), ["10.0.0.2", "fd00::2"].map(ip));
    assert_eq!(result.addresses[0].gateway, Some(ip("10.0.0.1")));
    assert_eq!((result.routes.len(), result.dns.nameservers.len()), (1, 1));
}

#[test]
fn nonsense_is_refused_with_the_field() {
    let many: Vec<_> = (0..=MAX_ITEMS).map(|_| json!({"dst": "::/0"})).collect();
    for (answer, problem) in [
        (json!({"ips": [{"address": "10.0.0.2"}]}), "ips[0].address: '10.0.0.2' is no address"),
        (json!({"ips": [{"address": "10.0.0.2/33"}]}), "ips[0].address"),
        (json!({"ips": [{"address": "10.0.0.2/24", "gateway": "x"}]}), "ips[0].gateway: 'x'"),
        (json!({"ips": [{"address": "10.0.0.2/24", "interface": 0}]}), "ips[0].interface: there"),
        (json!({"ips": [{"address": "10.0.0.2/24", "interface": -1}]}), "invalid value"),
        (json!({"ips": [{}]}), "missing field"),
        (json!({"ips": {}}), "invalid type"),
        (json!({"routes": [{"dst": "default"}]}), "routes[0].dst: 'default'"),
        (json!({"routes": many}), "routes: there are more than 1024"),
        (json!({"cniVersion": 1}), "cniVersion: it is no text"),
        (json!({"cniVersion": "7.0.0"}), "cniVersion: 7.0.0 is unknown"),
        (json!({"cniVersion": "0.2.0", "ip4": {"ip": "\u{1b}[2J"}}), "ip4.ip: '?[2J'"),
    ] {
        let error = parse(answer).unwrap_err();
        assert!(error.starts_with(problem), "{error}");
    }
}

#[test]
fn answer_is_written_in_the_version_of_the_configuration() {
    let written = |answer: Value, wanted: Version| {
        in_version(answer.as_object().unwrap().clone(), wanted).map(Value::Object)
    };
    let new = json!({"cniVersion": "1.0.0", "extra": 1,
        "ips": [{"address": "10.0.0.2/24"}, {"address": "fd00::2/64"}]});
    let old = json!({"cniVersion": "0.4.0", "extra": 1,
        "ips": [{"address": "10.0.0.2/24", "version": "4"},
                {"address": "fd00::2/64", "version": "6"}]});
    assert_eq!(written(new.clone(), Version::CHECK).unwrap(), old);
    assert_eq!(written(old, Version::PLAIN_ADDRESSES).unwrap(), new);
    let without = json!({"ips": []});
    assert_eq!(written(without, Version::NEWEST).unwrap()["cniVersion"], "1.1.0");
    let error = written(json!({"cniVersion": "0.2.0"}), Version::NEWEST).unwrap_err();
    assert!(error.contains("0.2.0") && error.contains("1.1.0"), "{error}");
    assert!(written(new, "0.2.0".parse().unwrap()).is_err());
}
