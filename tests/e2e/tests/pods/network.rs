//! The network of pods as CRI asks the plug-ins for it: addresses, host ports, bandwidth, firewall.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use harness::containerd::newest;
use harness::cri::node::on_any;
use harness::cri::{ContainerSpec, Daemon, PodSpec, chain};
use harness::{PATIENCE, eventually};

const HOST_PORT: u16 = 18081;

/// What a server says, asked from the node.
fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Output of a command of the node.
fn output(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn limits() -> usize {
    output(&["tc", "qdisc", "show"]).matches("rate 8Mbit").count()
}

#[test]
fn a_pod_is_reached_by_its_addresses_and_a_port_of_the_node() {
    on_any(&Daemon::with(&newest(), chain, ""), |node| {
        let spec = PodSpec::new("server").host_port(HOST_PORT.into(), 80);
        let spec = spec.annotation("kubernetes.io/ingress-bandwidth", "8M");
        let server = node.run(spec.annotation("kubernetes.io/egress-bandwidth", "8M"));
        let script =
            "mkdir -p /www; echo from the pod >/www/index.html; exec httpd -f -p 80 -h /www";
        node.cri.start_new(&server, ContainerSpec::shell("web", script));
        let addresses = node.cri.addresses(&server);
        assert!(addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6));
        for address in &addresses {
            let address = SocketAddr::new(*address, 80);
            eventually("the pod serves", || get(address).is_ok());
            assert!(get(address).unwrap().ends_with("from the pod\n"), "{address}");
        }
        let of_node = SocketAddr::from(([127, 0, 0, 1], HOST_PORT));
        assert!(get(of_node).unwrap().ends_with("from the pod\n"));
        // One for each direction.
        assert_eq!(limits(), 2, "{}", output(&["tc", "qdisc", "show"]));
        let allowed = output(&["iptables", "-S", "CNI-FORWARD"]);
        let own = addresses.iter().find(|address| address.is_ipv4()).unwrap();
        assert!(allowed.contains(&format!("{own}/32")), "{allowed}");

        let (other, client) = node.idle("client");
        for address in &addresses {
            let url = format!("http://{}/index.html", SocketAddr::new(*address, 80));
            let done = node.cri.exec_sync(&client, &["wget", "-qO-", &url]);
            assert_eq!(done.stdout, "from the pod\n", "{url}: {done:?}");
        }
        node.cri.remove_pod(&server);
        assert!(get(of_node).is_err(), "the port stays");
        assert_eq!(limits(), 0);
        assert!(!output(&["iptables", "-S", "CNI-FORWARD"]).contains(&format!("{own}/32")));
        node.cri.remove_pod(&other);
    });
}
