//! The table `cuddy` of nftables. It is made of all leases and replaced as a whole, in one
//! transaction of the kernel, so that it can't be half right. No other table is touched.
//!
//! - Ports lead to pods, for packets from elsewhere, from pods and from the node itself.
//! - What leaves for elsewhere has the node's address. What comes back by a published port to the
//!   bridge has the bridge's, as the pod would answer its neighbour directly.
//! - Packets for 127.0.0.0/8 that come from a pod are dropped: the bridge routes that network, for
//!   the node's own connections to published ports.

mod expressions;
mod transaction;

use std::io;
use std::net::IpAddr;

use cni::PortMapping;
use netlink_packet_netfilter::nftables::InetHookNumber;

use crate::lease::Lease;
use crate::subnets::Subnets;
use expressions::Rule;
use transaction::Transaction;

/// Of hooks (`NF_IP_PRI_*`).
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;

/// Makes the table what the leases want.
///
/// # Errors
/// What the kernel answered; the table is as before then.
pub(crate) fn replace(bridge: &str, subnets: &Subnets, leases: &[Lease]) -> io::Result<()> {
    let mut table = Transaction::new();
    table.empty();
    table.chain("guard", "filter", InetHookNumber::PreRouting, RAW);
    let loopback = Rule::new().v4().arrives_by(bridge).destination(&[127]);
    table.rule("guard", loopback.drop());
    for (chain, hook) in
        [("incoming", InetHookNumber::PreRouting), ("local", InetHookNumber::LocalOut)]
    {
        table.chain(chain, "nat", hook, DESTINATION_NAT);
        for lease in leases {
            let all = lease.ports().iter().flat_map(|port| lead(port, &lease.addresses()));
            all.for_each(|rule| table.rule(chain, rule));
        }
    }
    table.chain("leaving", "nat", InetHookNumber::PostRouting, SOURCE_NAT);
    let v4 = subnets.v4.network().octets();
    table.rule("leaving", Rule::new().v4().source(&v4[..2]).not_to(bridge).masquerade());
    table.rule("leaving", Rule::new().v4().source(&v4[..2]).by_port(bridge).masquerade());
    table.rule("leaving", Rule::new().v4().source(&[127]).to(bridge).masquerade());
    if let Some(v6) = subnets.v6.map(|net| net.network().octets()) {
        let from = || Rule::new().v6().source(&v6[..8]);
        table.rule("leaving", from().not_to(bridge).masquerade());
        table.rule("leaving", from().by_port(bridge).masquerade());
    }
    table.commit()
}

/// Removes the table.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn remove() -> io::Result<()> {
    let mut table = Transaction::new();
    table.remove();
    table.commit()
}

/// The rules that lead a port to a pod, one for each family that it is published in.
fn lead(port: &PortMapping, pod: &[IpAddr]) -> Vec<Rule> {
    let host = port.host_ip;
    let fits = |address: &&IpAddr| host.is_none_or(|host| host.is_ipv4() == address.is_ipv4());
    let rule = |address: &IpAddr| {
        let rule = if address.is_ipv4() { Rule::new().v4() } else { Rule::new().v6() };
        let rule = match host.filter(|host| !host.is_unspecified()) {
            Some(IpAddr::V4(host)) => rule.destination(&host.octets()),
            Some(IpAddr::V6(host)) => rule.destination(&host.octets()),
            None => rule.at_the_node(),
        };
        rule.at_port(port.protocol, port.host_port).lead(*address, port.container_port)
    };
    pod.iter().filter(fits).map(rule).collect()
}
