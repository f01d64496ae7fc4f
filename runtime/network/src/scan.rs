//! What a network namespace has, as the guest shall have it.

use std::collections::BTreeMap;

use netlink::{LOOPBACK, Link, Object, Socket, links, objects};

use crate::netns::Netns;
use crate::{Error, parameters, tap};

/// An interface that the guest gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// It, with a hardware address.
    pub link: Link,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Parameters that differ from a new interface's: file below /proc/sys/net, with `*` for the
    /// name, to value.
    pub parameters: BTreeMap<String, String>,
}

/// All that the guest gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Interfaces by their number.
    pub interfaces: Vec<Interface>,
    /// Addresses, neighbours, routes and rules of these interfaces, of loopback, and of none.
    pub objects: Vec<Object>,
    /// Interfaces and routes that it does not get, in plain words, and why.
    pub left_out: Vec<(String, &'static str)>,
}

/// Whether an interface can be joined to a tap.
///
/// # Errors
/// Why not.
pub(crate) fn carried(link: &Link) -> Result<[u8; 6], &'static str> {
    if link.hardware != Link::ETHERNET {
        return Err("it carries no Ethernet frames");
    }
    if link.master.is_some() {
        return Err("it is a part of another interface");
    }
    match link.kind.as_deref() {
        Some("tun") => return Err("a process serves it"),
        Some("bridge" | "bond" | "team" | "vrf") => return Err("it joins other interfaces"),
        _ => {}
    }
    match link.mac {
        Some(mac) if mac != [0; 6] => Ok(mac),
        _ => Err("it has no hardware address"),
    }
}

/// Whether an interface's frames come by another one of `all` that is joined to a tap, which takes
/// them before they get here.
fn is_stacked<'a>(mut link: &'a Link, all: &'a [Link]) -> bool {
    // At most eight can be stacked (`MAX_NEST_DEV`).
    for _ in 0..8 {
        if matches!(link.kind.as_deref(), Some("veth" | "netkit")) {
            return false;
        }
        let lower = all.iter().find(|other| Some(other.index) == link.lower);
        match lower {
            Some(lower) if carried(lower).is_ok() => return true,
            Some(lower) => link = lower,
            None => return false,
        }
    }
    false
}

impl Plan {
    pub(crate) fn read(netns: &Netns, socket: &mut Socket) -> Result<Self, Error> {
        let doing = || format!("looking at {}", netns.path().display());
        let failed = |error| Error::io(&doing(), error);
        let all = links(socket).map_err(failed)?;
        let mut plan = Self::default();
        let visible = |link: &&Link| link.flags & Link::LOOPBACK == 0 && !tap::is_ours(link);
        for link in all.iter().filter(visible) {
            let stacked = is_stacked(link, &all).then_some("another one of the guest's carries it");
            match carried(link).and_then(|mac| stacked.map_or(Ok(mac), Err)) {
                Ok(mac) => {
                    let link = link.clone();
                    let parameters = BTreeMap::new();
                    plan.interfaces.push(Interface { link, mac, parameters });
                }
                Err(reason) => plan.left_out.push((format!("interface {}", link.name), reason)),
            }
        }
        let names: Vec<(String, u32)> =
            plan.interfaces.iter().map(|own| (own.link.name.clone(), own.link.mtu)).collect();
        let read = netns.enter(&doing(), move || Ok(parameters::read(&names)))?;
        for (interface, parameters) in plan.interfaces.iter_mut().zip(read) {
            interface.parameters = parameters;
        }
        let known: Vec<u32> = plan.interfaces.iter().map(|own| own.link.index).collect();
        let has = |index: &u32| *index == LOOPBACK || known.contains(index);
        plan.objects = objects(socket).map_err(failed)?;
        plan.objects.retain(|object| object.interfaces().iter().all(has));
        plan.leave_out_wrapped();
        Ok(plan)
    }

    fn leave_out_wrapped(&mut self) {
        let all = self.objects.len();
        self.objects.retain(|object| !object.is_wrapped());
        let wrapped = all - self.objects.len();
        if wrapped > 0 {
            let name = format!("{wrapped} routes with encapsulation");
            self.left_out.push((name, "the other half of the tunnel is not in the guest"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(hardware: u16, kind: Option<&str>, mac: Option<[u8; 6]>) -> Link {
        Link {
            index: 2,
            name: "eth0".into(),
            hardware,
            flags: Link::UP,
            mac,
            mtu: 1500,
            tx_queue_length: 1000,
            kind: kind.map(str::to_owned),
            master: None,
            lower: None,
        }
    }

    #[test]
    fn ethernet_of_every_origin_is_carried() {
        let mac = Some([2, 0, 0, 0, 0, 1]);
        for kind in [Some("veth"), Some("macvlan"), Some("ipvlan"), Some("vlan"), None] {
            assert!(carried(&link(1, kind, mac)).is_ok(), "{kind:?}");
        }
        assert!(carried(&link(65534, Some("tun"), None)).is_err());
        assert!(carried(&link(1, Some("tun"), mac)).is_err());
        for kind in ["bridge", "vrf"] {
            assert!(carried(&link(1, Some(kind), mac)).is_err(), "{kind}");
        }
        assert!(carried(&link(1, Some("netkit"), Some([0; 6]))).is_err());
        let port = Link { master: Some(9), ..link(1, Some("veth"), mac) };
        assert!(carried(&port).is_err());
    }

    #[test]
    fn what_another_interface_carries_is_stacked_if_a_tap_takes_its_frames() {
        let mac = Some([2, 0, 0, 0, 0, 1]);
        let on = |index, kind, lower| Link { index, lower, ..link(1, Some(kind), mac) };
        let all = [
            on(2, "veth", None),
            on(3, "veth", Some(2)),
            on(4, "vlan", Some(2)),
            on(5, "macvlan", Some(4)),
            on(6, "bond", None),
            on(7, "vlan", Some(6)),
            on(8, "macvlan", Some(99)),
        ];
        let stacked: Vec<u32> =
            all.iter().filter(|link| is_stacked(link, &all)).map(|link| link.index).collect();
        assert_eq!(stacked, [4, 5]);
    }
}
