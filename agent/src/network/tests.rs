//! Between two network namespaces that the tests themselves make; they need root.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use netlink::{Object, Socket, links, objects};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::routes::replace;

/// A namespace with a loopback and one end of a veth pair, `eth0`, that is up.
struct Namespace(String);

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Namespace {
    fn new(what: &str) -> Self {
        // Before it is made: what fails half-way is to be removed as well.
        let namespace = Self(format!("{what}-{}", std::process::id()));
        let name = &namespace.0;
        run(&format!(
            "ip netns add {name} && ip -n {name} link set lo up && \
             ip -n {name} link add spare type veth peer name other && \
             ip -n {name} link add eth0 type veth peer name peer0 && \
             ip -n {name} link set eth0 addrgenmode none && \
             ip -n {name} link set peer0 up && ip -n {name} link set eth0 up"
        ));
        namespace
    }

    fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.0))
    }

    fn socket(&self) -> Socket {
        let path = format!("/run/netns/{}", self.0);
        let open = move || {
            let netns = File::open(path).unwrap();
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            Socket::open().unwrap()
        };
        std::thread::spawn(open).join().unwrap()
    }

    fn index(&self) -> u32 {
        let links = links(&mut self.socket()).unwrap();
        links.iter().find(|link| link.name == "eth0").unwrap().index
    }

    /// What iproute2 shows of `eth0` and of no interface.
    fn shown(&self, what: &str) -> BTreeSet<String> {
        let text = self.ip(what);
        let lines = text.lines().filter(|line| !line.contains("peer0"));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _left = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// The objects of `host`, for `guest`.
fn wanted(host: &Namespace, guest: &Namespace) -> Vec<Object> {
    let (from, to) = (host.index(), guest.index());
    let translate = |index| match index {
        1 => Some(1),
        other => (other == from).then_some(to),
    };
    let all = objects(&mut host.socket()).unwrap().into_iter();
    all.filter_map(|object| object.translated(&translate)).collect()
}

const ROUTES: [&str; 14] = [
    "default via 10.9.0.1 dev eth0 mtu lock 1300 advmss 1260 initcwnd 20 initrwnd 30 metric 50",
    "10.10.0.0/16 via 10.9.0.1 src 10.9.0.2 window 60000 rtt 100ms rttvar 50ms rto_min 40ms",
    "10.11.0.0/16 via 192.0.2.1 dev eth0 onlink proto static hoplimit 9 quickack 1",
    "10.12.0.0/16 via inet6 fd09::1 dev eth0 features ecn ssthresh 70 cwnd 90",
    "10.13.0.0/16 dev eth0 scope link table 100 tos 0x10 reordering 5 congctl cubic",
    "blackhole 10.14.0.0/16",
    "unreachable 10.15.0.0/16 metric 7",
    "10.16.0.0/16 nexthop via 10.9.0.1 weight 3 nexthop via 192.0.2.3 dev eth0 weight 5 onlink",
    "10.18.0.0/16 via 10.9.0.1 table 3000",
    "local 10.17.0.0/16 dev lo table 100",
    "fd10::/48 via fe80::1 dev eth0 metric 77 advmss 1200",
    "fd11::/48 dev eth0 table 200 proto 77",
    "default via fd09::1 dev eth0 mtu 1350 pref high",
    "fd13::/48 nexthop via fd09::1 dev eth0 weight 2 nexthop via fd09::3 dev eth0",
];

const OTHERS: [&str; 9] = [
    "addr add 10.9.1.2 peer 10.9.1.1 dev eth0 scope link",
    "addr add 10.9.0.3/24 dev eth0",
    "addr add 10.9.2.2/24 dev eth0 noprefixroute label eth0:x",
    "neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent",
    "neigh add fd09::77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent router",
    "neigh add proxy 10.9.0.78 dev eth0",
    "rule add from 10.9.0.2 fwmark 0x5/0xff table 100 priority 1000",
    "-6 rule add iif eth0 to fd11::/48 table 200 priority 1001",
    "route del 10.9.2.0/24 dev eth0 2>/dev/null || true",
];

const SHOWN: [&str; 8] = [
    "-d route show table all",
    "-6 -d route show table all",
    "rule",
    "-6 rule",
    "neigh show nud permanent",
    "-6 neigh show nud permanent",
    "neigh show proxy",
    "-o addr show dev eth0",
];

fn same(host: &Namespace, guest: &Namespace) {
    let without_number = |lines: BTreeSet<String>| -> BTreeSet<String> {
        let words = |line: String| {
            line.replace("nodad ", "").trim_start_matches(char::is_numeric).to_owned()
        };
        lines.into_iter().map(words).collect()
    };
    for what in SHOWN {
        assert_eq!(without_number(guest.shown(what)), without_number(host.shown(what)), "{what}");
    }
}

#[test]
fn everything_a_namespace_has_is_made_again_in_another_and_follows_changes() {
    let (host, guest) = (Namespace::new("host"), Namespace::new("guest"));
    // Numbers differ.
    host.ip("link del spare");
    host.ip("addr add 10.9.0.2/24 brd + dev eth0");
    host.ip("addr add fd09::2/64 dev eth0 nodad");
    for route in ROUTES {
        host.ip(&format!("route add {route}"));
    }
    for other in OTHERS {
        host.ip(other);
    }
    // As CNI's ptp does it: the connected route is not to come back.
    host.ip("route add 10.9.0.1 dev eth0 scope link");
    host.ip("route del 10.9.0.0/24 dev eth0 proto kernel src 10.9.0.2");
    let first = wanted(&host, &guest);
    let mut socket = guest.socket();
    assert!(host.shown("-d route show table all").len() > 9, "there is something to be made");
    replace(&mut socket, &[], &first).unwrap();
    same(&host, &guest);
    replace(&mut socket, &first, &first).unwrap();
    same(&host, &guest);

    // What a workload made stays, what the host changes is followed.
    guest.ip("route add 10.200.0.0/16 via 10.9.0.1");
    host.ip("route change 10.10.0.0/16 via 10.9.0.1 mtu 1234");
    host.ip("route del 10.14.0.0/16");
    host.ip("addr del 10.9.0.3/24 dev eth0");
    host.ip("rule del priority 1000");
    let second = wanted(&host, &guest);
    replace(&mut socket, &first, &second).unwrap();
    assert!(guest.ip("route").contains("10.200.0.0/16"));
    guest.ip("route del 10.200.0.0/16");
    same(&host, &guest);
}
