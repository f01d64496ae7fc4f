//! The plugins of Debian's package, as nodes have them: a bridge, addresses, and a published port.
//! All of it happens in a network namespace that the test makes for itself; it needs root.

use std::fs;
use std::future::Future;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cni::{Attachment, Capabilities, Plugins, Pod, PortMapping, Protocol};
use nix::sched::{CloneFlags, setns, unshare};

use crate::ground::{Ground, PATIENT};

const PLUGINS: &str = "/usr/lib/cni";

/// Does `test` on a thread of its own, whose namespace stands for the node's.
fn on_a_node<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    std::thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            run("ip link set lo up");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(test());
        };
        scope.spawn(run).join().unwrap();
    });
}

fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Listens in a pod.
fn listen(netns: &Path, address: &'static str) -> TcpListener {
    let netns = fs::File::open(netns).unwrap();
    let listen = move || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        TcpListener::bind(address).unwrap()
    };
    std::thread::spawn(listen).join().unwrap()
}

#[test]
fn bridge_addresses_and_ports_come_and_go() {
    let ground = Ground::new();
    let leases = ground.path("leases");
    let conf = format!(
        r#"{{"cniVersion": "1.0.0", "name": "real", "plugins": [
            {{"type": "bridge", "bridge": "cni-real", "isGateway": true, "ipMasq": true,
             "ipam": {{"type": "host-local", "dataDir": "{}",
                      "ranges": [[{{"subnet": "10.217.0.0/24"}}]],
                      "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
            {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#,
        leases.display()
    );
    ground.write("10-real.conflist", &conf);
    on_a_node(|| async {
        let plugins = Plugins::new(vec![PLUGINS.into()], PATIENT);
        let known = plugins.versions("bridge").await.unwrap();
        assert!(known.contains(&cni::Version::PLAIN_ADDRESSES), "{known:?}");
        let network = cni::NodeNetwork::open(ground.path("net.d"), plugins.clone());
        assert!(network.readiness().await.is_ready);
        let netns = ground.path("netns");
        network::pin(&netns).unwrap();
        let port = PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
        };
        let capabilities = Capabilities::default().port_mappings(&[port]);
        let pod = Pod { netns: netns.clone(), capabilities, ..ground.pod() };
        let mut attachment = Attachment::new(&network.conf().unwrap(), &pod).unwrap();
        plugins.attach(&mut attachment).await.unwrap();
        assert_eq!(attachment.addresses(), ["10.217.0.2".parse::<std::net::IpAddr>().unwrap()]);
        let result = attachment.result().unwrap();
        assert_eq!(result.addresses[0].gateway, Some("10.217.0.1".parse().unwrap()));
        for address in ["10.217.0.2:80", "10.217.0.1:8080", "127.0.0.1:8080"] {
            let listener = listen(&netns, "0.0.0.0:80");
            let limit = Duration::from_secs(30);
            let mut client = TcpStream::connect_timeout(&address.parse().unwrap(), limit).unwrap();
            drop(listener.accept().unwrap());
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "{address}");
        }
        assert!(run("iptables-save -t nat").contains("8080"));
        let lease = leases.join("real/10.217.0.2");
        assert!(lease.exists());
        plugins.detach(&attachment).await.unwrap();
        assert!(!run("iptables-save -t nat").contains("8080") && !lease.exists());
        assert!(!run("ip link").contains("veth"));
        network::unpin(&netns).unwrap();
        plugins.detach(&attachment).await.unwrap();
    });
}

#[test]
fn interface_that_is_gone_is_missed_by_check_and_no_matter_for_del() {
    let ground = Ground::new();
    let leases = ground.path("leases");
    let conf = format!(
        r#"{{"cniVersion": "0.4.0", "name": "real", "type": "bridge", "bridge": "cni-real",
             "ipam": {{"type": "host-local", "dataDir": "{}",
                      "ranges": [[{{"subnet": "10.217.0.0/24"}}], [{{"subnet": "fd17::/64"}}]]}}}}"#,
        leases.display()
    );
    ground.write("10-real.conf", &conf);
    on_a_node(|| async {
        let netns = ground.path("netns");
        network::pin(&netns).unwrap();
        let plugins = Plugins::new(vec![PLUGINS.into()], PATIENT);
        let network = cni::NodeNetwork::open(ground.path("net.d"), plugins.clone());
        let mut attachment = ground.attachment(&network.conf().unwrap());
        plugins.attach(&mut attachment).await.unwrap();
        let addresses: Vec<_> = attachment.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.217.0.2", "fd17::2"]);
        plugins.check(&attachment).await.unwrap();
        run(&format!("nsenter --net={} ip link del eth0", netns.display()));
        let error = plugins.check(&attachment).await.unwrap_err().to_string();
        assert!(error.starts_with("CNI plugin bridge failed to CHECK"), "{error}");
        plugins.detach(&attachment).await.unwrap();
        assert!(!leases.join("real/10.217.0.2").exists());
        network::unpin(&netns).unwrap();
    });
}

#[test]
fn address_is_given_back_when_there_are_none_left_for_the_other_family() {
    let ground = Ground::new();
    let leases = ground.path("leases");
    // The second range has room for its router only.
    let conf = format!(
        r#"{{"cniVersion": "1.0.0", "name": "real", "type": "bridge", "bridge": "cni-real",
             "ipam": {{"type": "host-local", "dataDir": "{}",
                      "ranges": [[{{"subnet": "10.217.0.0/24"}}],
                                 [{{"subnet": "fd17::/64", "rangeStart": "fd17::1",
                                   "rangeEnd": "fd17::1", "gateway": "fd17::1"}}]]}}}}"#,
        leases.display()
    );
    ground.write("10-real.conf", &conf);
    on_a_node(|| async {
        let netns = ground.path("netns");
        network::pin(&netns).unwrap();
        let plugins = Plugins::new(vec![PLUGINS.into()], PATIENT);
        let network = cni::NodeNetwork::open(ground.path("net.d"), plugins.clone());
        let mut attachment = ground.attachment(&network.conf().unwrap());
        let error = plugins.attach(&mut attachment).await.unwrap_err();
        assert!(matches!(error, cni::Error::Attach { cleanup: None, .. }), "{error:?}");
        assert!(error.to_string().contains("no IP addresses available"), "{error}");
        assert!(!leases.join("real/10.217.0.2").exists());
        network::unpin(&netns).unwrap();
    });
}
