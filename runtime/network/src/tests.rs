//! In network namespaces that the tests themselves make; they need root.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::*;

/// A namespace with a `lo` that is up and a veth pair: `eth0` in it, the other end in one of its
/// own, which stands for the node.
struct Pair {
    pod: String,
    node: String,
}

/// Held to start a program, which has copies of all descriptors of this process until it executes.
static STARTING: RwLock<()> = RwLock::new(());

fn start(line: &str) -> Child {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Drops something of which no program that another test starts keeps a copy.
fn end<T>(value: T) {
    let _still = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    drop(value);
}

fn run(line: &str) -> String {
    let output = start(line).wait_with_output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Pair {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |what: &str| format!("{what}-{}-{number}", std::process::id());
        let pair = Self { pod: name("pod"), node: name("node") };
        let (pod, node) = (&pair.pod, &pair.node);
        run(&format!(
            "ip netns add {pod}; ip netns add {node}; \
             ip -n {pod} link add eth0 type veth peer name veth0 netns {node} && \
             ip -n {node} addr add 10.7.0.1/24 dev veth0 && ip -n {node} link set veth0 up && \
             ip -n {pod} addr add 10.7.0.2/24 dev eth0 && ip -n {pod} link set lo up && \
             ip -n {pod} addr add fd07::2/64 dev eth0 nodad && \
             ip -n {pod} link set eth0 addrgenmode none mtu 1400 up && \
             ip -n {pod} route add default via 10.7.0.1 mtu 1300 initcwnd 20"
        ));
        // The kernel says a little later that the link is up.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !pair.ip("link show eth0").contains("state UP") {
            assert!(Instant::now() < deadline, "{}", pair.ip("link show eth0"));
        }
        pair
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.pod)
    }

    fn open(&self) -> Network {
        Network::open(Netns::open(Path::new(&self.path())).unwrap()).unwrap()
    }

    fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.pod))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in [&self.pod, &self.node] {
            let _left = start(&format!("ip netns del {name}")).wait();
        }
    }
}

/// Reads frames of a tap until one satisfies; all reads have one deadline.
fn frame(tap: &OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        assert!(Instant::now() < deadline, "no such frame");
        let mut fds = [rustix::event::PollFd::new(tap, rustix::event::PollFlags::IN)];
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&second)).unwrap();
        let mut buffer = vec![0; 4096];
        let Ok(length) = rustix::io::read(tap, &mut buffer) else { continue };
        let frame = buffer[12..length].to_vec();
        if wanted(&frame) {
            return frame;
        }
    }
}

#[test]
fn packets_pass_by_the_namespaces_own_stack_in_both_directions() {
    let pair = Pair::new();
    let mut network = pair.open();
    let plan = network.scan().unwrap();
    let [eth0] = plan.interfaces.as_slice() else { panic!("{plan:?}") };
    assert_eq!((eth0.link.name.as_str(), eth0.link.mtu), ("eth0", 1400));
    let ports = network.connect(&eth0.link, 1).unwrap();
    let [tap] = ports.taps.as_slice() else { panic!("{ports:?}") };
    // The node asks who has the pod's address: the guest sees it, the namespace does not answer.
    let node = Netns::open(Path::new(&format!("/run/netns/{}", pair.node))).unwrap();
    let socket = node.enter("binding", || std::net::UdpSocket::bind("10.7.0.1:0")).unwrap();
    socket.send_to(b"to the guest", "10.7.0.2:9").unwrap();
    let is_question =
        |frame: &[u8]| frame[12..14] == [8, 6] && frame[21] == 1 && frame[38..42] == [10, 7, 0, 2];
    let question = frame(tap, is_question);
    let mut answer = vec![0; 12];
    answer.extend_from_slice(&question[6..12]);
    answer.extend_from_slice(&eth0.mac);
    answer.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    answer.extend_from_slice(&eth0.mac);
    answer.extend_from_slice(&[10, 7, 0, 2]);
    answer.extend_from_slice(&question[22..32]);
    rustix::io::write(tap, &answer).unwrap();
    // It knows the guest now by the guest's own answer.
    let datagram = frame(tap, |frame| frame.ends_with(b"to the guest"));
    assert_eq!(datagram[..6], eth0.mac);
}

#[test]
fn nothing_is_left_and_addresses_stay() {
    let pair = Pair::new();
    let before = pair.ip("-o addr; ip link");
    let state = |what: &str| pair.ip(what).lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>();
    let addresses = state("-o addr");
    let mut network = pair.open();
    let plan = network.scan().unwrap();
    let ports = network.connect(&plan.interfaces[0].link, 2).unwrap();
    assert!(pair.ip("link").contains("cuddy"));
    assert_eq!(network.scan().unwrap(), plan, "what is ours is not seen");
    let index = plan.interfaces[0].link.index;
    assert!(pair.ip("link").contains(&format!("cuddy{index}")));
    let tc = || {
        run(&format!(
            "tc -n {} qdisc show; tc -n {} filter show dev eth0 ingress",
            pair.pod, pair.pod
        ))
    };
    assert!(tc().contains("clsact") && tc().contains("mirred"), "{}", tc());
    let queues = run(&format!("tc -n {} qdisc show dev cuddy{index} root", pair.pod));
    assert!(queues.contains("noqueue"), "{queues}");
    end((ports, network));
    assert!(!tc().contains("clsact") && !tc().contains("mirred"), "{}", tc());
    assert!(!pair.ip("link").contains("cuddy"));
    assert_eq!(state("-o addr"), addresses, "{before}");
}

#[test]
fn crash_is_undone_by_path_and_others_filters_stay() {
    let pair = Pair::new();
    run(&format!(
        "tc -n {pod} qdisc add dev eth0 clsact && \
         tc -n {pod} filter add dev eth0 egress u32 match u32 0 0 flowid 1:1",
        pod = pair.pod
    ));
    let mut network = pair.open();
    let inode = network.netns().inode();
    let plan = network.scan().unwrap();
    let ports = network.connect(&plan.interfaces[0].link, 1).unwrap();
    std::mem::forget(network);
    let filters = || run(&format!("tc -n {} filter show dev eth0 ingress", pair.pod));
    assert!(filters().contains("mirred"));
    undo(Path::new(&pair.path()), inode + 1).unwrap();
    assert!(filters().contains("mirred"), "another namespace at the path is not touched");
    undo(Path::new(&pair.path()), inode).unwrap();
    undo(Path::new(&pair.path()), inode).unwrap();
    assert!(!filters().contains("mirred"));
    assert!(!pair.ip("link").contains("cuddy"));
    let others = run(&format!("tc -n {} filter show dev eth0 egress", pair.pod));
    assert!(others.contains("u32"), "{others}");
    end(ports);
    undo(Path::new("/run/netns/none"), 1).unwrap();
    // A process of the host has got the number of the one whose namespace it was.
    undo(Path::new("/proc/self/ns/net"), inode).unwrap();
}

#[test]
fn plan_has_what_the_namespace_has_and_what_changes_is_told() {
    let pair = Pair::new();
    run(&format!(
        "ip -n {pod} neigh add 10.7.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent && \
         ip -n {pod} rule add from 10.7.0.2 table 100 && \
         ip netns exec {pod} sysctl -qw net.ipv4.conf.eth0.arp_filter=1",
        pod = pair.pod
    ));
    let mut network = pair.open();
    let plan = network.scan().unwrap();
    let kinds = |kind| plan.objects.iter().filter(|object| object.kind() == kind).count();
    assert_eq!(kinds(Kind::Neighbour), 1, "{plan:?}");
    assert_eq!(kinds(Kind::Rule), 1, "{plan:?}");
    // One of each family; the default route and one for each address.
    assert_eq!((kinds(Kind::Address), kinds(Kind::Route)), (2, 3), "{plan:?}");
    let parameters = &plan.interfaces[0].parameters;
    assert_eq!(parameters.get("ipv4/conf/*/arp_filter").map(String::as_str), Some("1"));
    assert!(!parameters.contains_key("ipv6/conf/*/mtu"), "{parameters:?}");
    assert_eq!(network.parameters().unwrap()["ipv4/ip_default_ttl"], "64");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut watch = network.watch().unwrap();
        pair.ip("addr add 10.8.0.2/24 dev eth0");
        let news = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await;
        news.unwrap().unwrap();
        let now = network.scan().unwrap();
        assert_eq!(now.objects.len(), plan.objects.len() + 2, "an address and its route");
        pair.ip("link add dummy0 type veth peer name other0");
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap().unwrap();
        assert_eq!(network.scan().unwrap().interfaces.len(), 3);
    });
}

#[test]
fn own_namespace_and_what_is_none_are_refused() {
    let own = Netns::open(Path::new("/proc/self/ns/net"));
    assert!(matches!(own, Err(Error::Own(_))), "{own:?}");
    let none = Netns::open(Path::new("/run/netns/none"));
    assert!(matches!(none, Err(Error::Gone(_))), "{none:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Netns::open(file.path()), Err(Error::Gone(_))));
}

#[test]
fn every_port_of_loopback_is_ours_and_nothing_else() {
    let pair = Pair::new();
    let network = pair.open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    // Somebody serves in the namespace, at an address of the pod.
    let own = network.netns().enter("listening", || TcpListener::bind("10.7.0.2:8080")).unwrap();
    let listeners = network.listen().unwrap();
    let dial = |address: &'static str| {
        network.netns().enter("dialling", move || std::net::TcpStream::connect(address))
    };
    for address in ["127.0.0.1:80", "127.0.0.1:8080", "127.1.2.3:65535", "[::1]:443"] {
        let mut client = dial(address).unwrap();
        let (stream, local) = runtime.block_on(listeners.accept()).unwrap();
        assert_eq!(local.to_string(), address);
        let mut stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.write_all(b"from the guest").unwrap();
        drop(stream);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the guest");
    }
    let client = dial("10.7.0.2:8080").unwrap();
    let (accepted, _) = own.accept().unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
    assert!(dial("10.7.0.2:81").is_err(), "refused as before");
    assert!(dial("[fd07::2]:81").is_err(), "refused as before");
    end(listeners);
    assert!(dial("127.0.0.1:80").is_err(), "gone with its owner");
}

#[test]
fn loopback_that_comes_up_later_is_listened_on() {
    let pair = Pair::new();
    pair.ip("link set lo down");
    let network = pair.open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let listeners = network.listen().unwrap();
    pair.ip("link set lo up");
    for address in ["127.0.0.1:80", "[::1]:80"] {
        let dial = move || std::net::TcpStream::connect(address);
        let _client = network.netns().enter("dialling", dial).unwrap();
        assert_eq!(runtime.block_on(listeners.accept()).unwrap().1.to_string(), address);
    }
}

#[test]
fn interface_of_a_living_machine_is_refused_and_keeps_its_redirection() {
    let pair = Pair::new();
    let (mut first, mut second) = (pair.open(), pair.open());
    let link = first.scan().unwrap().interfaces.remove(0).link;
    let ports = first.connect(&link, 2).unwrap();
    let error = second.connect(&link, 2).unwrap_err().to_string();
    assert!(error.contains("eth0") && error.contains(&tap::name(link.index)), "{error}");
    let filters = || run(&format!("tc -n {} filter show dev eth0 ingress", pair.pod));
    assert!(filters().contains("mirred"));
    drop(second);
    assert!(filters().contains("mirred"), "nor when the other one ends");
    end((ports, first));
    let _ports = pair.open().connect(&link, 2).unwrap();
}

#[test]
fn largest_packets_of_a_veth_do_not_keep_it_from_its_tap() {
    let pair = Pair::new();
    pair.ip("link set eth0 mtu 65535");
    let mut network = pair.open();
    let mut link = network.scan().unwrap().interfaces.remove(0).link;
    let _ports = network.connect(&link, 1).unwrap();
    link.mtu = 1500;
    network.set_mtu(&link).unwrap();
    link.mtu = 65535;
    network.set_mtu(&link).unwrap();
    assert!(pair.ip(&format!("link show {}", tap::name(link.index))).contains("mtu 65521"));
}

#[test]
fn interfaces_on_others_are_left_out() {
    let pair = Pair::new();
    // The node's kernel may lack some kinds.
    let kinds = ["type vlan id 7", "type macvlan", "type ipvlan"];
    let made = |(number, kind): (usize, &&str)| {
        let line = format!("ip -n {} link add link eth0 name sub{number} {kind}", pair.pod);
        start(&line).wait().unwrap().success()
    };
    let count = kinds.iter().enumerate().filter(|kind| made(*kind)).count();
    let plan = pair.open().scan().unwrap();
    let names: Vec<_> = plan.interfaces.iter().map(|own| own.link.name.as_str()).collect();
    assert_eq!(names, ["eth0"]);
    assert_eq!(plan.left_out.len(), count, "{:?}", plan.left_out);
}
