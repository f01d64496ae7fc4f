//! A pod's place on the bridge, which the caller stores. This module is pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni::{PortMapping, Protocol};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, word};
use crate::subnets::Subnets;

/// The first number that a pod gets; the one before is the bridge's.
const FIRST: u16 = 2;

/// A pod's addresses and published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    id: String,
    netns: PathBuf,
    number: u16,
    subnets: Subnets,
    ports: Vec<PortMapping>,
}

impl Lease {
    /// Leases the lowest free number of the subnets, beside all leases that are `known`.
    ///
    /// # Errors
    /// [`Error::NoAddress`]; [`Error::PortTaken`] by one of the others; [`Error::Port`] for SCTP,
    /// and for an address that no pod can be reached at.
    pub(crate) fn new(
        subnets: Subnets,
        known: &[Self],
        id: &str,
        netns: &Path,
        ports: &[PortMapping],
    ) -> Result<Self, Error> {
        let ports: Vec<_> = ports.iter().filter(|port| port.host_port != 0).cloned().collect();
        for (index, port) in ports.iter().enumerate() {
            publishable(port, &subnets)?;
            let own = ports.iter().take(index).map(|other| (id, other));
            let others = known.iter().flat_map(Self::published);
            let owner = own.chain(others).find(|(_, other)| collide(port, other));
            if let Some((by, _)) = owner {
                return Err(taken_by(port, format!("pod {by}")));
            }
        }
        // The last address of a subnet is its broadcast.
        let taken: BTreeSet<u16> = known.iter().map(|lease| lease.number).collect();
        let number = (FIRST..u16::MAX).find(|number| !taken.contains(number));
        let number = number.ok_or(Error::NoAddress(subnets.v4.into()))?;
        Ok(Self { id: id.to_owned(), netns: netns.to_owned(), number, subnets, ports })
    }

    /// The sandbox's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The path of the pod's network namespace.
    pub fn netns(&self) -> &Path {
        &self.netns
    }

    /// The pod's addresses, that of IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.networks().iter().map(IpNet::addr).collect()
    }

    /// The published ports.
    pub fn ports(&self) -> &[PortMapping] {
        &self.ports
    }

    pub(crate) fn networks(&self) -> Vec<IpNet> {
        self.subnets.host(self.number)
    }

    pub(crate) fn subnets(&self) -> Subnets {
        self.subnets
    }

    /// The name of the bridge's end of the pod's cable.
    pub(crate) fn host_interface(&self) -> String {
        format!("cuddyv{:x}", self.number)
    }

    fn published(&self) -> impl Iterator<Item = (&str, &PortMapping)> {
        self.ports.iter().map(|port| (self.id.as_str(), port))
    }
}

pub(crate) fn taken_by(port: &PortMapping, by: String) -> Error {
    let (protocol, host_ip) = (word(port.protocol), port.host_ip);
    Error::PortTaken { port: port.host_port, protocol, host_ip, by }
}

fn publishable(port: &PortMapping, subnets: &Subnets) -> Result<(), Error> {
    let problem = match (port.protocol, port.host_ip) {
        (Protocol::Sctp, _) => "only tcp and udp are carried",
        _ if port.container_port == 0 => "the pod has no port 0",
        (_, Some(IpAddr::V6(address))) if address.is_loopback() => {
            "the kernel never lets ::1 leave the node's own stack; 127.0.0.1 can be published"
        }
        (_, Some(IpAddr::V6(_))) if subnets.v6.is_none() => "this node has no IPv6",
        _ => return Ok(()),
    };
    Err(Error::Port { port: port.host_port, problem })
}

/// Whether two ports can't be published at once.
fn collide(one: &PortMapping, other: &PortMapping) -> bool {
    let all = |port: &PortMapping| port.host_ip.filter(|address| !address.is_unspecified());
    let same_place = match (all(one), all(other)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    one.protocol == other.protocol && one.host_port == other.host_port && same_place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets() -> Subnets {
        Subnets::choose(&crate::Wanted::default(), &[], Some([1, 2, 3, 4, 5])).unwrap()
    }

    fn port(host_port: u16, protocol: Protocol, host_ip: Option<&str>) -> PortMapping {
        let host_ip = host_ip.map(|text| text.parse().unwrap());
        PortMapping { host_port, container_port: 80, protocol, host_ip }
    }

    fn lease(known: &[Lease], ports: &[PortMapping]) -> Result<Lease, Error> {
        let id = format!("pod{}", known.len());
        Lease::new(subnets(), known, &id, Path::new("/run/netns/a"), ports)
    }

    #[test]
    fn lowest_free_address_is_leased() {
        let mut known = Vec::new();
        for last in 2..5 {
            let lease = lease(&known, &[]).unwrap();
            assert_eq!(lease.addresses()[0].to_string(), format!("10.88.0.{last}"));
            known.push(lease);
        }
        known.remove(1);
        let between = lease(&known, &[]).unwrap();
        assert_eq!(between.addresses()[1].to_string(), "fd01:203:405::3");
        let stored = serde_json::to_string(&between).unwrap();
        assert_eq!(serde_json::from_str::<Lease>(&stored).unwrap(), between);
    }

    #[test]
    fn full_subnet_is_named() {
        let one = lease(&[], &[]).unwrap();
        let all: Vec<_> = (2..u16::MAX).map(|number| Lease { number, ..one.clone() }).collect();
        let error = lease(&all, &[]).unwrap_err();
        assert_eq!(error.to_string(), "every address of 10.88.0.0/16 is taken");
    }

    #[test]
    fn port_that_is_taken_is_named_with_its_owner() {
        let tcp = |host_ip| port(8080, Protocol::Tcp, host_ip);
        let known = [lease(&[], &[tcp(Some("192.0.2.1"))]).unwrap()];
        for free in [tcp(Some("192.0.2.2")), port(8080, Protocol::Udp, None)] {
            lease(&known, &[free]).unwrap();
        }
        for (taken, place) in [
            (tcp(None), "this node"),
            (tcp(Some("0.0.0.0")), "0.0.0.0"),
            (tcp(Some("192.0.2.1")), "192.0.2.1"),
        ] {
            let error = lease(&known, &[taken]).unwrap_err().to_string();
            assert_eq!(error, format!("port 8080/tcp of {place} is taken by pod pod0"));
        }
        let twice = lease(&[], &[tcp(None), tcp(None)]).unwrap_err().to_string();
        assert_eq!(twice, "port 8080/tcp of this node is taken by pod pod0");
    }

    #[test]
    fn what_can_not_be_published_is_refused() {
        for (port, problem) in [
            (port(1, Protocol::Sctp, None), "only tcp and udp"),
            (port(1, Protocol::Tcp, Some("::1")), "the kernel never lets ::1"),
            (PortMapping { container_port: 0, ..port(1, Protocol::Udp, None) }, "no port 0"),
        ] {
            let error = lease(&[], &[port]).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(lease(&[], &[port(0, Protocol::Sctp, None)]).unwrap().ports().is_empty());
    }
}
