//! Kernel parameters that a pod sets for itself.

use harness::cri::node::any_handler;
use harness::cri::{ContainerSpec, PodSpec};
use harness::eventually;

use super::netns::sh;

#[test]
fn a_pods_own_parameters_of_an_interface_win_over_its_namespaces() {
    any_handler(|node| {
        let spec = PodSpec::new("own").sysctl("net.ipv4.conf.eth0.arp_ignore", "1");
        let spec = spec.sysctl("net.ipv4.conf.all.forwarding", "1");
        let pod = node.run(spec.sysctl("kernel.shm_rmid_forced", "1"));
        let container = node.cri.start_new(&pod, ContainerSpec::idle("main"));
        let show = || {
            let script = "cd /proc/sys; cat net/ipv4/conf/eth0/arp_ignore \
                          net/ipv4/conf/eth0/arp_announce net/ipv4/ip_forward \
                          kernel/shm_rmid_forced";
            node.cri.sh(&container, script).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(show(), "1 0 1 1");
        // The same parameter of the namespace, another one, and an event that has them read.
        let namespaces = sh("ls /run/netns");
        let [namespace] = namespaces.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{namespaces}");
        };
        let set = "sysctl -qw net.ipv4.conf.eth0.arp_ignore=2 net.ipv4.conf.eth0.arp_announce=2";
        sh(&format!("ip netns exec {namespace} {set}"));
        sh(&format!("ip -n {namespace} route add 10.77.0.0/16 dev eth0"));
        eventually("the pod follows", || {
            node.cri.sh(&container, "ip route").contains("10.77.0.0/16")
        });
        assert_eq!(show(), "1 2 1 1");
        node.cri.remove_pod(&pod);
    });
}
