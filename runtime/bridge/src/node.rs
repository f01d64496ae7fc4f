//! The bridge itself, and pods on it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use cni::{PortMapping, Protocol};
use ipnet::IpNet;
use netlink::{Link, Socket};
use network::{Netns, is_pinned};

use crate::error::Error;
use crate::lease::{Lease, taken_by};
use crate::links;
use crate::rules;
use crate::subnets::{Subnets, Wanted};

/// The pod's interface.
const INTERFACE: &str = "eth0";

/// The node's bridge.
#[derive(Debug)]
pub struct NodeBridge {
    name: String,
    subnets: Subnets,
    index: u32,
}

impl NodeBridge {
    /// Makes the bridge `name` (`cuddy0`) or takes the one that is there, and has the node forward
    /// packets. The subnets are those of a lease, else the `wanted` ones, else those of the bridge,
    /// else new ones.
    ///
    /// # Errors
    /// [`Error::NoSubnet`], or [`Error::Io`] with what the kernel answered.
    pub fn open(name: &str, wanted: &Wanted, known: &[Lease]) -> Result<Self, Error> {
        let failed = |error| Error::io(format!("making the bridge {name}"), error);
        let mut socket = Socket::open().map_err(failed)?;
        let random = random().map_err(failed)?;
        let link = find_or_make(&mut socket, name, random).map_err(failed)?;
        let own = links::networks(&mut socket, link.index).map_err(failed)?;
        let (link, subnets) = match (known.first(), of_bridge(&own)) {
            (Some(lease), _) => (link, lease.subnets()),
            (None, Some(subnets)) if wanted.fits(&subnets) => (link, subnets),
            (None, there) => {
                let mut link = link;
                if there.is_some() {
                    // Nobody is on it, and its own addresses are in the way.
                    links::delete(&mut socket, link.index).map_err(failed)?;
                    link = find_or_make(&mut socket, name, random).map_err(failed)?;
                }
                let routes = links::destinations(&mut socket).map_err(failed)?;
                // An administrator may have switched it off.
                let has_v6 =
                    value(&format!("ipv6/conf/{name}/disable_ipv6")).as_deref() == Some("0");
                (link, Subnets::choose(wanted, &routes, has_v6.then_some(random))?)
            }
        };
        for gateway in subnets.gateways() {
            links::add_address(&mut socket, link.index, gateway).map_err(failed)?;
        }
        links::up(&mut socket, link.index).map_err(failed)?;
        forward(name, subnets.v6.is_some())?;
        let bridge = Self { name: name.to_owned(), subnets, index: link.index };
        bridge.publish(known)?;
        Ok(bridge)
    }

    /// Whether there is an interface of this name.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel answered.
    pub fn exists(name: &str) -> Result<bool, Error> {
        let found = Socket::open().and_then(|mut socket| links::find(&mut socket, name));
        let found = found.map_err(|error| Error::io(format!("looking for {name}"), error))?;
        Ok(found.is_some())
    }

    /// The subnets of its pods.
    pub fn subnets(&self) -> Subnets {
        self.subnets
    }

    /// Leases addresses and ports for a pod, beside all leases that are `known`. Nothing is made.
    ///
    /// # Errors
    /// [`Error::PortTaken`] by a pod or a process of the node, [`Error::Port`] and
    /// [`Error::NoAddress`].
    pub fn lease(
        &self,
        known: &[Lease],
        id: &str,
        netns: &Path,
        ports: &[PortMapping],
    ) -> Result<Lease, Error> {
        let lease = Lease::new(self.subnets, known, id, netns, ports)?;
        lease.ports().iter().try_for_each(refuse_used)?;
        Ok(lease)
    }

    /// Attaches a pod. `known` are all leases, its own among them. It can be repeated.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Netns`]. Nothing but the lease is left then.
    pub fn attach(&self, lease: &Lease, known: &[Lease]) -> Result<(), Error> {
        let attached = self.plug(lease).and_then(|()| self.publish(known));
        if attached.is_err() {
            let others: Vec<_> =
                known.iter().filter(|other| other.id() != lease.id()).cloned().collect();
            if let Err(error) = self.detach(lease, &others) {
                log::warn!("undoing the attachment of pod {}: {error}", lease.id());
            }
        }
        attached
    }

    fn plug(&self, lease: &Lease) -> Result<(), Error> {
        let failed =
            |error| Error::io(format!("attaching pod {} to {}", lease.id(), self.name), error);
        let netns = Netns::open(lease.netns())?;
        let mut socket = Socket::open().map_err(failed)?;
        let name = lease.host_interface();
        // Nobody else has the number: it was left by a crash.
        unplug(&mut socket, &name).map_err(failed)?;
        links::make_cable(&mut socket, &name, INTERFACE, netns.as_fd()).map_err(failed)?;
        let link = links::find(&mut socket, &name).map_err(failed)?;
        let link = link.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        links::plug(&mut socket, link.index, self.index).map_err(failed)?;
        links::up(&mut socket, link.index).map_err(failed)?;
        let (networks, gateways) = (lease.networks(), self.subnets.gateways());
        netns.enter(&format!("configuring {INTERFACE} of pod {}", lease.id()), move || {
            configure(&networks, &gateways)
        })?;
        Ok(())
    }

    /// Detaches a pod, whose namespace may be gone. `known` are the leases that stay. It can be
    /// repeated.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel answered.
    pub fn detach(&self, lease: &Lease, known: &[Lease]) -> Result<(), Error> {
        self.publish(known)?;
        let failed =
            |error| Error::io(format!("detaching pod {} from {}", lease.id(), self.name), error);
        let mut socket = Socket::open().map_err(failed)?;
        unplug(&mut socket, &lease.host_interface()).map_err(failed)
    }

    /// Removes what belongs to none of the `known` leases; those among them whose namespace is
    /// gone, as after a reboot.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel answered.
    pub fn collect<'a>(&self, known: &'a [Lease]) -> Result<Vec<&'a Lease>, Error> {
        self.publish(known)?;
        let failed = |error| Error::io(format!("looking for leftovers on {}", self.name), error);
        let mut socket = Socket::open().map_err(failed)?;
        let names: Vec<_> = known.iter().map(Lease::host_interface).collect();
        let all = netlink::links(&mut socket).map_err(failed)?;
        let ours = all.iter().filter(|link| link.master == Some(self.index));
        for link in ours.filter(|link| !names.contains(&link.name)) {
            links::delete(&mut socket, link.index).map_err(failed)?;
        }
        Ok(known.iter().filter(|lease| !is_pinned(lease.netns())).collect())
    }

    /// Removes the bridge and its rules. Forwarding stays on, as others may rely on it by now.
    ///
    /// # Errors
    /// [`Error::Io`] with what the kernel answered.
    pub fn remove(self) -> Result<(), Error> {
        let failed = |error| Error::io(format!("removing the bridge {}", self.name), error);
        rules::remove().map_err(failed)?;
        unplug(&mut Socket::open().map_err(failed)?, &self.name).map_err(failed)
    }

    fn publish(&self, known: &[Lease]) -> Result<(), Error> {
        rules::replace(&self.name, &self.subnets, known)
            .map_err(|error| Error::io("replacing the table cuddy of nftables", error))
    }
}

fn find_or_make(socket: &mut Socket, name: &str, random: [u8; 5]) -> io::Result<Link> {
    if let Some(link) = links::find(socket, name)? {
        return Ok(link);
    }
    let [a, b, c, d, e] = random;
    links::make_bridge(socket, name, [2, a, b, c, d, e])?;
    links::find(socket, name)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// In the pod: addresses, and routes by the bridge.
fn configure(networks: &[IpNet], gateways: &[IpNet]) -> io::Result<()> {
    let mut socket = Socket::open()?;
    let link = links::find(&mut socket, INTERFACE)?.ok_or(io::ErrorKind::NotFound)?;
    links::up(&mut socket, link.index)?;
    for network in networks {
        links::add_address(&mut socket, link.index, *network)?;
    }
    for gateway in gateways {
        links::add_default(&mut socket, link.index, gateway.addr())?;
    }
    Ok(())
}

fn unplug(socket: &mut Socket, name: &str) -> io::Result<()> {
    match links::find(socket, name)? {
        Some(link) => links::delete(socket, link.index),
        None => Ok(()),
    }
}

/// The subnets of a bridge that an earlier process has made.
fn of_bridge(networks: &[IpNet]) -> Option<Subnets> {
    let v4 = networks.iter().find_map(|net| match net {
        IpNet::V4(net) if net.prefix_len() == 16 => Some(net.trunc()),
        _ => None,
    });
    let v6 = networks.iter().find_map(|net| match net {
        IpNet::V6(net) if net.prefix_len() == 64 && net.addr().is_unique_local() => {
            Some(net.trunc())
        }
        _ => None,
    });
    v4.map(|v4| Subnets { v4, v6 })
}

/// Has the node forward packets, and reach published ports by 127.0.0.1.
fn forward(bridge: &str, has_v6: bool) -> Result<(), Error> {
    set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
    set("ipv4/ip_forward", "1")?;
    if has_v6 {
        // A node that forwards hears no routers any more unless it is told to.
        for entry in fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if value(&format!("ipv6/conf/{name}/accept_ra")).as_deref() == Some("1") {
                set(&format!("ipv6/conf/{name}/accept_ra"), "2")?;
            }
        }
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

fn value(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
    Some(text.trim().to_owned())
}

fn set(name: &str, wanted: &str) -> Result<(), Error> {
    if value(name).as_deref() == Some(wanted) {
        return Ok(());
    }
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, wanted)
        .map_err(|error| Error::io(format!("setting {path} to {wanted}"), error))?;
    log::info!("set {path} to {wanted}, for pods on the node's own network");
    Ok(())
}

fn random() -> io::Result<[u8; 5]> {
    let mut bytes = [0; 5];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}

/// Refuses a port at which a process of the node serves: that would be cut off.
fn refuse_used(port: &PortMapping) -> Result<(), Error> {
    let address = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let place = (address, port.host_port);
    let bound = match port.protocol {
        Protocol::Tcp => TcpListener::bind(place).map(drop),
        _ => UdpSocket::bind(place).map(drop),
    };
    match bound {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(taken_by(port, "a process of this node".to_owned()))
        }
        Err(error) => Err(Error::io(format!("binding {address} port {}", port.host_port), error)),
    }
}
