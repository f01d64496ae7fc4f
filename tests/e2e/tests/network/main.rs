//! The pod's network: guests joined to network namespaces that CNI plugins, or the test, have made.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod netns;
mod plugins;
mod sysctls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::ctr::{BUSYBOX, Name, RUNTIME, ctr};
use harness::{PATIENCE, eventually, host};
use netns::{Netns, exec, remove, sh};
use serde_json::{Value, json};

const DEBIAN: &str = "cuddy.test/debian:latest";

fn bridge(mtu: u32) -> Value {
    json!({
        "type": "bridge", "bridge": "cni-test", "isGateway": true, "ipMasq": true, "mtu": mtu,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd22::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    })
}

/// The pod's address without its prefix length; index 1 is IPv6.
fn address(result: &Value, index: usize) -> String {
    let address = result["ips"][index]["address"].as_str().unwrap();
    address.split('/').next().unwrap().to_owned()
}

fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Gives `content` to one client of the node's `address`; where, and who came.
fn serve_once(address: &str, content: Vec<u8>) -> (String, JoinHandle<SocketAddr>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serve = std::thread::spawn(move || {
        let mut came = None;
        eventually("somebody comes to the node", || {
            came = listener.accept().ok();
            came.is_some()
        });
        let (mut stream, peer) = came.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        stream.write_all(&content).unwrap();
        let _request = stream.shutdown(std::net::Shutdown::Write);
        let _rest = stream.read_to_end(&mut Vec::new());
        peer
    });
    (url, serve)
}

/// Bytes that fill queues many times.
const TRANSFER: usize = 4 << 20;

/// Makes as many to be fetched.
const BIG: &str = "dd if=/dev/zero of=big bs=1M count=4 2>/dev/null;";

/// How many bytes come of those that the node gives to the guest. Its own `wget -T` crashes.
fn fetched(node: &str, container: &Name) -> usize {
    let (url, served) = serve_once(node, vec![b'x'; TRANSFER]);
    let script = format!("timeout 60 wget -qO- {url} | wc -c");
    let count = exec(container, &["sh", "-c", &script]);
    served.join().unwrap();
    count.trim().parse().unwrap()
}

/// Descriptors of the host's accelerator that machines hold.
fn vhost() -> usize {
    let fds = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let links = host::vmms().into_iter().flat_map(fds).flatten();
    let targets = links.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    targets.filter(|target| target.ends_with("vhost-net")).count()
}

const FIN_TIMEOUT: &str = "/proc/sys/net/ipv4/tcp_fin_timeout";

const HTTPD: &str = "mkdir -p /www; echo from the guest >/www/index.html; cd /www; ";

fn end(netns: Netns, container: Name) {
    remove(&container);
    eventually("the shim has ended", || host::shims().is_empty());
    netns.is_clean();
    drop(netns);
    host::settled();
}

#[test]
fn guest_behind_a_bridge_is_reached_and_reaches_with_the_namespaces_own_settings() {
    let mut netns = Netns::new();
    let sysctls = json!({"net.core.somaxconn": "77", "net.ipv4.tcp_fin_timeout": "33"});
    let result = netns.chain(&[bridge(1400), json!({"type": "tuning", "sysctl": sysctls})]);
    let pod = address(&result, 0);
    let script = format!("{HTTPD} {BIG} exec httpd -f -p 80");
    let container = netns.start(BUSYBOX, &[], &["sh", "-c", &script]);
    let tuned = exec(&container, &["cat", "/proc/sys/net/core/somaxconn", FIN_TIMEOUT]);
    assert_eq!(tuned, "77\n33\n");
    eventually("the guest serves", || get(&format!("{pod}:80")).is_ok());
    assert!(get(&format!("{pod}:80")).unwrap().contains("from the guest"));
    let v6 = format!("[{}]:80", address(&result, 1));
    assert!(get(&v6).unwrap().contains("from the guest"));
    assert!(TcpStream::connect(format!("{pod}:81")).is_err(), "refused by the guest");

    // From the guest: the node by both families.
    exec(&container, &["ping", "-c", "1", "-W", "20", "10.22.0.1"]);
    let (url, served) = serve_once("10.22.0.1", b"from the node".to_vec());
    assert!(exec(&container, &["timeout", "60", "wget", "-qO-", &url]).contains("from the node"));
    assert_eq!(served.join().unwrap().ip().to_string(), pod);

    // The same name, hardware address, MTU and addresses as in the namespace.
    let wanted = netns.ip("-o link show eth0");
    let mac = wanted.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let link = exec(&container, &["ip", "link", "show", "eth0"]);
    assert!(link.contains(mac) && link.contains("mtu 1400") && link.contains(",UP"), "{link}");
    let addresses = exec(&container, &["ip", "addr", "show", "eth0"]);
    assert!(addresses.contains(&format!("{pod}/16 brd 10.22.255.255")), "{addresses}");
    assert!(!addresses.contains("tentative"), "{addresses}");
    let lo = exec(&container, &["ip", "addr", "show", "lo"]);
    assert!(lo.contains("127.0.0.1/8") && lo.contains(",UP"), "{lo}");
    // Nothing is lost at full size, in either direction.
    let count = sh(&format!("busybox wget -T 60 -qO- http://{pod}/big | wc -c"));
    assert_eq!(count.trim(), TRANSFER.to_string());
    assert_eq!(fetched("10.22.0.1", &container), TRANSFER);
    assert!(vhost() > 0, "the host's accelerator carries the frames");
    netns.check(&result);
    end(netns, container);
}

/// Routes as iproute2 shows them, without those that only a kernel makes.
fn routes(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut lines: Vec<_> = lines.filter(|line| !line.contains("table local")).collect();
    lines.sort();
    lines
}

/// Gives a namespace objects with all kinds of attributes.
fn configure(netns: &Netns) {
    for route in [
        "default via 10.9.0.1 dev eth0 mtu lock 1300 advmss 1260 initcwnd 20 initrwnd 30 metric 50",
        "10.10.0.0/16 via 10.9.0.1 src 10.9.0.2 window 60000 rtt 100ms rttvar 50ms rto_min 40ms",
        "10.11.0.0/16 via 192.0.2.1 dev eth0 onlink proto static hoplimit 9 quickack 1",
        "10.12.0.0/16 via inet6 fd09::1 dev eth0 features ecn ssthresh 70 cwnd 90",
        "10.13.0.0/16 dev eth0 scope link table 100 tos 0x10 reordering 5 congctl cubic",
        "blackhole 10.14.0.0/16",
        "unreachable 10.15.0.0/16 metric 7",
        "10.16.0.0/16 nexthop via 10.9.0.1 weight 3 nexthop via 192.0.2.3 dev eth0 weight 5 onlink",
    ] {
        netns.ip(&format!("route add {route}"));
    }
    for route in [
        "default via fd09::1 dev eth0 mtu 1350 pref high",
        "fd10::/48 via fe80::1 dev eth0 metric 77 advmss 1200",
        "fd11::/48 dev eth0 table 200 proto 77",
        "blackhole fd12::/48",
        "fd13::/48 nexthop via fd09::1 dev eth0 weight 2 nexthop via fd09::3 dev eth0",
    ] {
        netns.ip(&format!("-6 route add {route}"));
    }
    netns.ip("addr add 10.9.1.2 peer 10.9.1.1 dev eth0 scope link");
    netns.ip("addr add 10.9.2.2/24 dev eth0 noprefixroute label eth0:x valid_lft 9000 preferred_lft 8000");
    netns.ip("neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent");
    netns.ip("neigh add fd09::77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent router");
    netns.ip("neigh add proxy 10.9.0.78 dev eth0");
    netns.ip("rule add from 10.9.0.2 fwmark 0x5/0xff table 100 priority 1000");
    netns.ip("-6 rule add iif eth0 to fd11::/48 table 200");
    // CNI's ptp does that: it is not to come back.
    netns.ip("route del 10.9.0.0/24 dev eth0 proto kernel");
    netns.ip("route add 10.9.0.1 dev eth0 scope link");
    netns.exec("sysctl -qw net.ipv4.conf.eth0.arp_announce=2");
}

#[test]
fn guest_has_every_attribute_of_routes_addresses_neighbours_and_rules() {
    let netns = Netns::with_veth("vethr");
    configure(&netns);
    // The node's own iproute2, since none in an image shows all.
    let usr = ["--mount", "type=bind,src=/usr,dst=/usr,options=rbind:ro"];
    let container = netns.start(DEBIAN, &usr, &["sleep", "1000"]);
    for what in ["-d route show table all", "-6 -d route show table all"] {
        let words: Vec<_> = ["ip"].into_iter().chain(what.split(' ')).collect();
        assert_eq!(routes(&exec(&container, &words)), routes(&netns.ip(what)), "{what}");
    }
    for what in [
        "rule",
        "-6 rule",
        "neigh show nud permanent",
        "neigh show proxy",
        "-6 neigh show nud permanent",
    ] {
        let words: Vec<_> = ["ip"].into_iter().chain(what.split(' ')).collect();
        assert_eq!(routes(&exec(&container, &words)), routes(&netns.ip(what)), "{what}");
    }
    let addresses = |text: String| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains("inet"));
        // How long is left changes, and the namespace's kernel made an address that here the agent
        // made.
        let lasting = lines.map(|line| line.split("valid_lft").next().unwrap());
        lasting.map(|line| line.replace("nodad ", "").replace("proto kernel_ll ", "")).collect()
    };
    let guest = exec(&container, &["ip", "-o", "addr", "show", "eth0"]);
    assert_eq!(addresses(guest.clone()), addresses(netns.ip("-o addr show eth0")));
    assert!(guest.contains("valid_lft 8") && guest.contains("preferred_lft 7"), "{guest}");
    let parameter = exec(&container, &["cat", "/proc/sys/net/ipv4/conf/eth0/arp_announce"]);
    assert_eq!(parameter, "2\n");
    end(netns, container);
}

#[test]
fn interfaces_and_addresses_that_come_change_and_go_later_are_followed() {
    let netns = Netns::with_veth("vethl");
    netns.ip("link add net1 type veth peer name vethm netns 1");
    netns.ip("addr add fd0a::2/64 dev net1 nodad");
    netns.ip("link set net1 up");
    sh("ip addr add fd0a::1/64 dev vethm nodad; ip link set vethm up");
    // As many queue pairs.
    let options = ["--cpus", "2", "--cap-add", "CAP_NET_ADMIN"];
    let container = netns.start(BUSYBOX, &options, &["sleep", "1000"]);
    // One for each queue pair of both.
    assert_eq!(vhost(), 4);
    exec(&container, &["ping", "-c", "1", "-W", "20", "10.9.0.1"]);
    exec(&container, &["ping6", "-c", "1", "-W", "20", "fd0a::1"]);
    let has = |what: &[&str], text: &str| exec(&container, what).contains(text);

    netns.ip("addr add 10.9.5.2/24 dev eth0");
    netns.ip("route add 10.99.0.0/16 via 10.9.0.1");
    eventually("a later route", || has(&["ip", "route"], "10.99.0.0/16 via 10.9.0.1"));
    assert!(has(&["ip", "addr"], "10.9.5.2/24"));
    let own = "10.98.0.0/16 via 10.9.0.1";
    exec(&container, &[&["ip", "route", "add"][..], &own.split(' ').collect::<Vec<_>>()].concat());
    netns.ip("addr del 10.9.5.2/24 dev eth0");
    eventually("an address goes", || !has(&["ip", "addr"], "10.9.5.2/24"));
    netns.ip("link set eth0 mtu 1480");
    eventually("the MTU changes", || has(&["ip", "link", "show", "eth0"], "mtu 1480"));
    assert!(has(&["ip", "route"], own), "what the workload itself adds stays");

    netns.ip("link add net2 type veth peer name vethn netns 1");
    netns.ip("addr add 10.19.0.2/24 dev net2");
    netns.ip("link set net2 up");
    sh("ip addr add 10.19.0.1/24 dev vethn; ip link set vethn up");
    eventually("a later interface", || has(&["ip", "addr"], "10.19.0.2/24"));
    sh("ping -c 1 -W 20 10.19.0.2 2>/dev/null || busybox ping -c 1 -W 20 10.19.0.2");
    netns.ip("link del net1");
    eventually("an interface goes", || !has(&["ip", "link"], "net1"));
    assert!(has(&["ip", "link"], "net2"));

    // Into the window that has become free.
    netns.ip("link add net3 type veth peer name vetho netns 1");
    netns.ip("addr add 10.20.0.2/24 dev net3");
    netns.ip("link set net3 up");
    sh("ip addr add 10.20.0.1/24 dev vetho; ip link set vetho up");
    eventually("another one", || has(&["ip", "addr"], "10.20.0.2/24"));
    for (interface, node) in [("eth0", "10.9.0.1"), ("net2", "10.19.0.1"), ("net3", "10.20.0.1")] {
        exec(&container, &["ls", &format!("/sys/class/net/{interface}/queues/tx-1")]);
        assert_eq!(fetched(node, &container), TRANSFER, "{interface}");
    }
    end(netns, container);
}

#[test]
fn host_ports_and_bandwidth_of_cni_work() {
    let mut netns = Netns::new();
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true},
        "runtimeConfig": {"portMappings": [
            {"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}]}});
    let limit = 8_000_000;
    let bandwidth = json!({"type": "bandwidth", "ingressRate": limit, "ingressBurst": 800_000,
        "egressRate": limit, "egressBurst": 800_000});
    let result = netns.chain(&[bridge(1500), portmap, bandwidth]);
    let script = format!("{HTTPD} {BIG} exec httpd -f -p 80");
    let container = netns.start(BUSYBOX, &[], &["sh", "-c", &script]);
    let pod = address(&result, 0);
    eventually("the guest serves", || get(&format!("{pod}:80")).is_ok());
    assert!(get("127.0.0.1:18080").unwrap().contains("from the guest"));
    let begin = Instant::now();
    let mut stream = TcpStream::connect(format!("{pod}:80")).unwrap();
    stream.write_all(b"GET /big HTTP/1.0\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() > 4 << 20, "{}", bytes.len());
    // 4 MiB at 1 MB/s, less what may come in one burst.
    assert!(begin.elapsed() > Duration::from_secs(3), "{:?}", begin.elapsed());
    end(netns, container);
}

#[test]
fn ports_of_the_guests_loopback_are_reached_from_the_namespaces() {
    let netns = Netns::with_veth("vethf");
    let script = format!(
        "{HTTPD} {BIG} \
         httpd -p 127.0.0.1:8080; httpd -p '[::1]:8081'; exec httpd -f -p 80"
    );
    let container = netns.start(BUSYBOX, &[], &["sh", "-c", &script]);
    eventually("the guest serves", || get("10.9.0.2:80").is_ok());
    let fetch = |url: &str| netns.exec(&format!("busybox wget -T 60 -qO- {url}"));
    for port in
        ["127.0.0.1:80", "127.0.0.1:8080", "127.0.0.1:8081", "[::1]:80", "[::1]:8080", "[::1]:8081"]
    {
        assert_eq!(fetch(&format!("http://{port}/index.html")), "from the guest\n", "{port}");
    }
    let big = netns.exec("sh -c 'busybox wget -T 60 -qO- http://127.0.0.1:8080/big | wc -c'");
    assert_eq!(big.trim(), (4 << 20).to_string());
    // Half of a connection ends by itself: the answer comes after the question's end.
    let request =
        "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | socat -t 60 - TCP:127.0.0.1:8080";
    assert!(netns.exec(&format!("sh -c \"{request}\"")).contains("from the guest"));
    let refused = Command::new("ip")
        .args([
            "netns",
            "exec",
            &netns.name,
            "timeout",
            "30",
            "socat",
            "-u",
            "TCP:127.0.0.1:99",
            "-",
        ])
        .output()
        .unwrap();
    let story = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(story.contains("reset"), "{refused:?}");
    // The namespace's other addresses are none of ours: the guest itself refuses.
    assert!(TcpStream::connect("10.9.0.2:99").is_err());
    // Loopback of the node is not the pod's.
    assert!(TcpStream::connect("127.0.0.1:8080").is_err());
    end(netns, container);
}

#[test]
fn nothing_is_left_in_the_namespace_after_a_crash_of_the_shim() {
    let netns = Netns::with_veth("vethc");
    let container = netns.start(BUSYBOX, &[], &["sleep", "1000"]);
    assert!(netns.ip("link").contains("cuddy"));
    for pid in host::shims() {
        host::kill(pid);
    }
    eventually("containerd has cleaned up", || {
        host::vmms().is_empty() && !netns.ip("link").contains("cuddy")
    });
    eventually("no redirection is left", || {
        !sh(&format!("tc -n {} qdisc show", netns.name)).contains("clsact")
    });
    ctr(&["task", "rm", "--force", container.as_str()]);
    ctr(&["container", "rm", container.as_str()]).ok();
    std::mem::forget(container);
    netns.is_clean();
}

#[test]
fn namespace_that_is_not_there_is_named() {
    let name = Name::new("absent");
    let fixed = ["run", "--rm", "--runtime", RUNTIME, "--with-ns", "network:/run/netns/absent"];
    let done = ctr(&[&fixed[..], &[BUSYBOX, name.as_str(), "true"]].concat());
    assert!(done.code != Some(0) && done.stderr.contains("/run/netns/absent"), "{done:?}");
    ctr(&["container", "rm", name.as_str()]);
    host::settled();
}
