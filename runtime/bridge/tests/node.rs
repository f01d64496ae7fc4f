//! Pods on a bridge, in a network namespace that each test makes for itself; they need root.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bridge::{Lease, NodeBridge, Wanted};
use cni::{PortMapping, Protocol};
use nix::sched::{CloneFlags, setns, unshare};

const LIMIT: Duration = Duration::from_secs(30);

/// Does `test` on a thread of its own, whose namespace stands for the node's. Another one, at
/// 192.0.2.1, stands for the world.
fn on_a_node(test: impl FnOnce(&Path) + Send) {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let world = place.join("world");
    network::pin(&world).unwrap();
    let node = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let world = world.display();
        run(&format!(
            "ip link set lo up && ip link add up0 type veth peer name eth0 netns {world} && \
             ip addr add 192.0.2.2/24 dev up0 && ip link set up0 up && \
             nsenter --net={world} ip addr add 192.0.2.1/24 dev eth0 && \
             nsenter --net={world} ip link set eth0 up"
        ));
        test(place);
    };
    let ended = std::thread::scope(|scope| scope.spawn(node).join());
    for entry in std::fs::read_dir(place).unwrap() {
        network::unpin(&entry.unwrap().path()).unwrap();
    }
    ended.unwrap();
}

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Does something in another namespace.
fn within<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    let netns = File::open(netns).unwrap();
    let enter = || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).unwrap()
}

fn dial(address: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&address.parse().unwrap(), LIMIT)
}

/// Whether a server in a namespace is reached; who it believes to speak with.
fn reached(server: &Path, listen: &str, dial: impl FnOnce() -> TcpStream) -> SocketAddr {
    let listener = within(server, || TcpListener::bind(listen)).unwrap();
    let mut client = dial();
    let (stream, peer) = listener.accept().unwrap();
    drop(stream);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    peer
}

fn port(host_port: u16, protocol: Protocol, host_ip: Option<&str>) -> PortMapping {
    let host_ip = host_ip.map(|text| text.parse().unwrap());
    PortMapping { host_port, container_port: 80, protocol, host_ip }
}

fn attach(
    bridge: &NodeBridge,
    known: &mut Vec<Lease>,
    place: &Path,
    ports: &[PortMapping],
) -> PathBuf {
    let name = format!("pod{}", known.len());
    let netns = place.join(&name);
    network::pin(&netns).unwrap();
    let lease = bridge.lease(known, &name, &netns, ports).unwrap();
    known.push(lease.clone());
    bridge.attach(&lease, known).unwrap();
    netns
}

#[test]
fn published_port_is_reached_from_everywhere_and_pods_reach_the_world() {
    on_a_node(|place| {
        let bridge = NodeBridge::open("cuddy0", &Wanted::default(), &[]).unwrap();
        let mut known = Vec::new();
        let ports = [port(8080, Protocol::Tcp, None), port(5353, Protocol::Udp, None)];
        let pod = attach(&bridge, &mut known, place, &ports);
        let other = attach(&bridge, &mut known, place, &[]);
        let world = place.join("world");
        let rules = run("nft list table inet cuddy");
        assert!(rules.contains("dport 8080") && rules.contains("masquerade"), "{rules}");
        let from_world = || within(&world, || dial("192.0.2.2:8080")).unwrap();
        let peer = reached(&pod, "0.0.0.0:80", from_world);
        assert_eq!(peer.ip().to_string(), "192.0.2.1", "the world's own address is seen");
        for address in ["127.0.0.1:8080", "192.0.2.2:8080", "10.88.0.2:80"] {
            reached(&pod, "0.0.0.0:80", || dial(address).unwrap());
        }
        for client in [&other, &pod] {
            reached(&pod, "0.0.0.0:80", || within(client, || dial("192.0.2.2:8080")).unwrap());
        }
        let peer = reached(&other, "[::]:81", || {
            let address = format!("[{}]:81", known[1].addresses()[1]);
            within(&pod, || dial(&address)).unwrap()
        });
        assert_eq!(peer.ip(), known[0].addresses()[1]);
        let peer = reached(&world, "0.0.0.0:82", || within(&pod, || dial("192.0.2.1:82")).unwrap());
        assert_eq!(peer.ip().to_string(), "192.0.2.2", "the node's address");
        // The world has no route to pods: only NAT lets an answer come back.
        let server = within(&pod, || UdpSocket::bind("0.0.0.0:80")).unwrap();
        let client = within(&world, || UdpSocket::bind("192.0.2.1:0")).unwrap();
        client.send_to(b"question", "192.0.2.2:5353").unwrap();
        server.set_read_timeout(Some(LIMIT)).unwrap();
        let (_, peer) = server.recv_from(&mut [0; 16]).unwrap();
        server.send_to(b"answer", peer).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let (_, from) = client.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from.to_string(), "192.0.2.2:5353");
    });
}

#[test]
fn nothing_is_left_of_a_pod_and_of_the_bridge() {
    on_a_node(|place| {
        let bridge = NodeBridge::open("cuddy0", &Wanted::default(), &[]).unwrap();
        let mut known = Vec::new();
        let pod = attach(&bridge, &mut known, place, &[port(8080, Protocol::Tcp, None)]);
        bridge.attach(&known[0], &known).unwrap();
        bridge.detach(&known[0], &[]).unwrap();
        let netns = pod.display();
        run(&format!("nsenter --net={netns} ip link add eth0 type veth peer name other0"));
        bridge.attach(&known[0], &known).unwrap_err();
        assert!(!run("ip -o link").contains("cuddyv"), "undone");
        assert!(!run("nft list table inet cuddy").contains("8080"), "undone");
        run(&format!("nsenter --net={netns} ip link del eth0"));
        bridge.attach(&known[0], &known).unwrap();
        let again = NodeBridge::open("cuddy0", &Wanted::default(), &known).unwrap();
        assert_eq!(again.subnets(), bridge.subnets());
        assert_eq!(
            NodeBridge::open("cuddy0", &Wanted::default(), &[]).unwrap().subnets(),
            bridge.subnets()
        );
        network::unpin(&pod).unwrap();
        assert_eq!(bridge.collect(&known).unwrap().len(), 1, "its namespace is gone");
        bridge.detach(&known[0], &[]).unwrap();
        bridge.detach(&known[0], &[]).unwrap();
        assert!(!run("nft list table inet cuddy").contains("8080"));
        run("ip link add cuddyv99 type veth peer name left0 && ip link set cuddyv99 master cuddy0");
        assert!(bridge.collect(&[]).unwrap().is_empty());
        assert!(!run("ip -o link").contains("cuddyv"));
        bridge.remove().unwrap();
        assert!(!run("ip -o link").contains("cuddy") && !run("nft list ruleset").contains("cuddy"));
    });
}

#[test]
fn host_address_binds_and_a_port_in_use_is_refused() {
    on_a_node(|place| {
        run("ip addr add 192.0.2.3/24 dev up0");
        let bridge = NodeBridge::open("cuddy0", &Wanted::default(), &[]).unwrap();
        let mut known = Vec::new();
        let pod = attach(&bridge, &mut known, place, &[port(90, Protocol::Tcp, Some("192.0.2.3"))]);
        let world = place.join("world");
        reached(&pod, "0.0.0.0:80", || within(&world, || dial("192.0.2.3:90")).unwrap());
        let refused = within(&world, || dial("192.0.2.2:90")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let _server = TcpListener::bind("0.0.0.0:91").unwrap();
        let taken = bridge.lease(&known, "b", &pod, &[port(91, Protocol::Tcp, None)]).unwrap_err();
        let text = "port 91/tcp of this node is taken by a process of this node";
        assert_eq!(taken.to_string(), text);
        bridge.lease(&known, "b", &pod, &[port(91, Protocol::Udp, None)]).unwrap();
    });
}

#[test]
fn packets_of_pods_for_loopback_are_dropped_before_anything_else() {
    on_a_node(|_| {
        let _bridge = NodeBridge::open("cuddy0", &Wanted::default(), &[]).unwrap();
        let guard = run("nft list chain inet cuddy guard");
        assert!(guard.contains("hook prerouting priority raw"), "{guard}");
        assert!(guard.contains(r#"iifname "cuddy0" ip daddr 127.0.0.0/8 drop"#), "{guard}");
    });
}

#[test]
fn routes_of_the_node_are_avoided() {
    on_a_node(|_| {
        run("ip route add 10.88.0.0/15 via 192.0.2.1");
        let bridge = NodeBridge::open("cuddy0", &Wanted::default(), &[]).unwrap();
        assert_eq!(bridge.subnets().v4.to_string(), "10.90.0.0/16");
        assert_eq!(run("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    });
}

#[test]
fn wanted_subnet_counts_from_when_nobody_is_on_the_bridge() {
    on_a_node(|place| {
        let bridge = NodeBridge::open("cuddy0", &Wanted::default(), &[]).unwrap();
        let mut known = Vec::new();
        let pod = attach(&bridge, &mut known, place, &[]);
        let wanted = Wanted { v4: Some("172.20.0.0/16".parse().unwrap()), v6: None };
        let same = NodeBridge::open("cuddy0", &wanted, &known).unwrap();
        assert_eq!(same.subnets(), bridge.subnets(), "a pod is on it");
        network::unpin(&pod).unwrap();
        same.detach(&known[0], &[]).unwrap();
        let other = NodeBridge::open("cuddy0", &wanted, &[]).unwrap();
        assert_eq!(other.subnets().v4, wanted.v4.unwrap());
        let addresses = run("ip -o -4 addr show dev cuddy0");
        assert!(
            addresses.contains("172.20.0.1/16") && !addresses.contains("10.88."),
            "{addresses}"
        );
    });
}
