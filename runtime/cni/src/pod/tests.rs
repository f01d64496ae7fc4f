use super::*;

fn pod() -> Pod {
    Pod {
        id: "0123abcd".to_owned(),
        netns: "/run/netns/a".into(),
        interface: "eth0".to_owned(),
        namespace: "default".to_owned(),
        name: "web-0".to_owned(),
        uid: "6f1d".to_owned(),
        capabilities: Capabilities::default(),
    }
}

#[test]
fn args_are_those_of_containerd() {
    let expected = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;\
                    K8S_POD_INFRA_CONTAINER_ID=0123abcd;K8S_POD_UID=6f1d";
    assert_eq!(pod().args().unwrap(), expected);
}

#[test]
fn what_a_plugin_would_misunderstand_is_refused() {
    let refused: [(&str, Pod); 8] = [
        ("the sandbox's id", Pod { id: "../a".to_owned(), ..pod() }),
        ("the sandbox's id", Pod { id: String::new(), ..pod() }),
        ("the interface's name", Pod { interface: "a/b".to_owned(), ..pod() }),
        ("the interface's name", Pod { interface: "..".to_owned(), ..pod() }),
        ("the interface's name", Pod { interface: "sixteen-letters-".to_owned(), ..pod() }),
        ("the pod's name", Pod { name: "a;K8S_POD_UID=b".to_owned(), ..pod() }),
        ("the pod's namespace", Pod { namespace: "a=b".to_owned(), ..pod() }),
        ("the pod's UID", Pod { uid: "a\n".to_owned(), ..pod() }),
    ];
    for (what, pod) in refused {
        let error = pod.args().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{what}: plugins can't be told")), "{error}");
    }
}

#[test]
fn capabilities_have_the_forms_of_the_conventions() {
    let port = |host_port, protocol, host_ip: Option<&str>| PortMapping {
        host_port,
        container_port: 80,
        protocol,
        host_ip: host_ip.map(|text| text.parse().unwrap()),
    };
    let ports = [
        port(8080, Protocol::Tcp, None),
        port(53, Protocol::Udp, Some("::1")),
        port(0, Protocol::Sctp, None),
    ];
    let dns = Dns { nameservers: vec!["10.0.0.10".to_owned()], ..Dns::default() };
    let bandwidth = Bandwidth { ingress_rate: 1000, ingress_burst: 2000, ..Bandwidth::default() };
    let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let told = Capabilities::default()
        .port_mappings(&ports)
        .dns(&dns)
        .bandwidth(&bandwidth)
        .annotations(&annotations)
        .ips(&["10.0.0.2/24".parse().unwrap()])
        .mac("02:00:00:00:00:01")
        .aliases(&["web".to_owned()])
        .cgroup_path("/kubepods/pod1");
    let expected = json!({
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 80, "protocol": "udp", "hostIP": "::1"},
        ],
        "dns": {"servers": ["10.0.0.10"]},
        "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000},
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
        "ips": ["10.0.0.2/24"],
        "mac": "02:00:00:00:00:01",
        "aliases": ["web"],
        "cgroupPath": "/kubepods/pod1",
    });
    assert_eq!(Value::Object(told.map().clone()), expected);
}

#[test]
fn what_is_empty_is_told_to_none() {
    let told = Capabilities::default()
        .port_mappings(&[])
        .dns(&Dns::default())
        .bandwidth(&Bandwidth::default())
        .annotations(&BTreeMap::new())
        .ips(&[])
        .mac("")
        .aliases(&[])
        .cgroup_path("");
    assert_eq!(told, Capabilities::default());
}
