//! What rtnetlink is asked for: bridges, cables between namespaces, addresses, routes.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink::{Attributes, Kind, Link, LinkChange, Object, Socket, links, objects};

/// Size of `struct ifinfomsg`.
const HEADER: usize = 16;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// The node knows its own addresses: nobody has to be asked for them.
const IFA_F_NODAD: u8 = 0x2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

pub(crate) fn find(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    Ok(links(socket)?.into_iter().find(|link| link.name == name))
}

/// A new interface with these attributes.
fn make(socket: &mut Socket, attributes: &Attributes) -> io::Result<()> {
    let body = [vec![0; HEADER], attributes.to_bytes()].concat();
    socket.change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body)
}

/// Makes a bridge. It keeps its hardware address, whatever its ports have.
pub(crate) fn make_bridge(socket: &mut Socket, name: &str, mac: [u8; 6]) -> io::Result<()> {
    let info = Attributes::default().with_text(IFLA_INFO_KIND, "bridge");
    let attributes = Attributes::default()
        .with_text(IFLA_IFNAME, name)
        .with(IFLA_ADDRESS, &mac)
        .with_nested(IFLA_LINKINFO, &info);
    make(socket, &attributes)
}

/// Makes a cable from here to an interface `peer` in another namespace.
pub(crate) fn make_cable(
    socket: &mut Socket,
    name: &str,
    peer: &str,
    netns: BorrowedFd<'_>,
) -> io::Result<()> {
    let fd = netns.as_raw_fd().to_ne_bytes();
    let peer = Attributes::default().with_text(IFLA_IFNAME, peer).with(IFLA_NET_NS_FD, &fd);
    let peer = [vec![0; HEADER], peer.to_bytes()].concat();
    let data = Attributes::default().with(VETH_INFO_PEER, &peer);
    let info =
        Attributes::default().with_text(IFLA_INFO_KIND, "veth").with_nested(IFLA_INFO_DATA, &data);
    let attributes =
        Attributes::default().with_text(IFLA_IFNAME, name).with_nested(IFLA_LINKINFO, &info);
    make(socket, &attributes)
}

fn change(socket: &mut Socket, index: u32, attributes: &Attributes) -> io::Result<()> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.resize(HEADER, 0);
    body.extend_from_slice(&attributes.to_bytes());
    socket.change(RTM_NEWLINK, 0, &body)
}

/// Plugs an interface into a bridge, which may send frames back to it (hairpin).
pub(crate) fn plug(socket: &mut Socket, index: u32, bridge: u32) -> io::Result<()> {
    change(socket, index, &Attributes::default().with_number(IFLA_MASTER, bridge))?;
    let data = Attributes::default().with(IFLA_BRPORT_MODE, &[1]);
    let info = Attributes::default()
        .with_text(IFLA_INFO_SLAVE_KIND, "bridge")
        .with_nested(IFLA_INFO_SLAVE_DATA, &data);
    change(socket, index, &Attributes::default().with_nested(IFLA_LINKINFO, &info))
}

pub(crate) fn up(socket: &mut Socket, index: u32) -> io::Result<()> {
    LinkChange::default().flags(Link::UP, Link::UP).apply(socket, index)
}

pub(crate) fn delete(socket: &mut Socket, index: u32) -> io::Result<()> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.resize(HEADER, 0);
    socket.change(RTM_DELLINK, 0, &body)
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn add(socket: &mut Socket, kind: Kind, header: &[u8], attributes: &Attributes) -> io::Result<()> {
    let body = [header, &attributes.to_bytes()].concat();
    let object = Object::parse(kind, &body).ok_or(io::ErrorKind::InvalidInput)?;
    object.add(socket)
}

/// Gives an interface an address.
pub(crate) fn add_address(socket: &mut Socket, index: u32, network: IpNet) -> io::Result<()> {
    let address = bytes(network.addr());
    let mut header = vec![family(network.addr()), network.prefix_len(), IFA_F_NODAD, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    let attributes = Attributes::default().with(IFA_LOCAL, &address).with(IFA_ADDRESS, &address);
    add(socket, Kind::Address, &header, &attributes)
}

/// Makes the default route of a family.
pub(crate) fn add_default(socket: &mut Socket, index: u32, gateway: IpAddr) -> io::Result<()> {
    let header =
        [family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0];
    let attributes =
        Attributes::default().with(RTA_GATEWAY, &bytes(gateway)).with_number(RTA_OIF, index);
    add(socket, Kind::Route, &header, &attributes)
}

/// Where the node's IPv4 routes lead.
pub(crate) fn destinations(socket: &mut Socket) -> io::Result<Vec<IpNet>> {
    let read = |object: Object| {
        let body = object.to_bytes();
        let (header, attributes) = body.split_at_checked(12)?;
        let length = *header.get(1).filter(|_| header.first() == Some(&AF_INET))?;
        let address: [u8; 4] = Attributes::parse(attributes)?.get(RTA_DST)?.try_into().ok()?;
        IpNet::new(IpAddr::from(address), length).ok()
    };
    let routes = objects(socket)?.into_iter().filter(|object| object.kind() == Kind::Route);
    Ok(routes.filter_map(read).collect())
}

/// The networks of an interface's addresses.
pub(crate) fn networks(socket: &mut Socket, index: u32) -> io::Result<Vec<IpNet>> {
    let read = |object: Object| {
        let body = object.to_bytes();
        let (header, attributes) = body.split_at_checked(8)?;
        let length = *header.get(1)?;
        let address = Attributes::parse(attributes)?.get(IFA_ADDRESS)?.to_vec();
        let address = match <[u8; 4]>::try_from(address.as_slice()) {
            Ok(address) => IpAddr::from(address),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(address.as_slice()).ok()?),
        };
        IpNet::new(address, length).ok()
    };
    let own = |object: &Object| object.kind() == Kind::Address && object.interfaces() == [index];
    Ok(objects(socket)?.into_iter().filter(own).filter_map(read).collect())
}
