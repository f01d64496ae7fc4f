//! Network interfaces: reading them all, and changing one.

use std::io;

use crate::{Attributes, Socket};

/// Size of `struct ifinfomsg`.
const HEADER: usize = 16;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_LINK_NETNSID: u16 = 37;

const IFLA_INFO_KIND: u16 = 1;

const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const AF_INET6: u16 = 10;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Hardware type, `ARPHRD_*`; 1 is Ethernet.
    pub hardware: u16,
    /// `IFF_*`.
    pub flags: u32,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Length of its transmit queue in packets.
    pub tx_queue_length: u32,
    /// What made it, for instance `veth`; none for hardware.
    pub kind: Option<String>,
    /// Interface that it is a part of, a bridge for instance.
    pub master: Option<u32>,
    /// Interface of the same network namespace that it belongs to: what carries a VLAN's frames, or
    /// the other end of a pair.
    pub lower: Option<u32>,
}

impl Link {
    /// `ARPHRD_ETHER`.
    pub const ETHERNET: u16 = 1;
    /// `IFF_UP`.
    pub const UP: u32 = 0x1;
    /// `IFF_LOOPBACK`.
    pub const LOOPBACK: u32 = 0x8;
    /// `IFF_NOARP`: it sends no ARP and no neighbour discovery.
    pub const NOARP: u32 = 0x80;
    /// `IFF_PROMISC`: it takes what is for others as well.
    pub const PROMISCUOUS: u32 = 0x100;
    /// `IFF_ALLMULTI`: it takes every multicast.
    pub const ALL_MULTICAST: u32 = 0x200;
    /// `IFF_MULTICAST`: it can send to groups.
    pub const MULTICAST: u32 = 0x1000;

    fn parse(body: &[u8]) -> Option<Self> {
        let [_, _, a, b, c, d, e, f, g, h, i, j, ..] = *body.first_chunk::<HEADER>()?;
        let attributes = Attributes::parse(body.get(HEADER..)?)?;
        let info = attributes.nested(IFLA_LINKINFO);
        let is_elsewhere = attributes.get(IFLA_LINK_NETNSID).is_some();
        Some(Self {
            index: u32::from_ne_bytes([c, d, e, f]),
            name: attributes.text(IFLA_IFNAME)?,
            hardware: u16::from_ne_bytes([a, b]),
            flags: u32::from_ne_bytes([g, h, i, j]),
            mac: attributes.get(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
            mtu: attributes.number(IFLA_MTU)?,
            tx_queue_length: attributes.number(IFLA_TXQLEN).unwrap_or_default(),
            kind: info.and_then(|info| info.text(IFLA_INFO_KIND)),
            master: attributes.number(IFLA_MASTER),
            lower: attributes.number(IFLA_LINK).filter(|index| *index != 0 && !is_elsewhere),
        })
    }
}

/// All interfaces of the socket's network namespace.
///
/// # Errors
/// What the kernel answered.
pub fn links(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let bodies = socket.dump(RTM_GETLINK, &[0; HEADER])?;
    Ok(bodies.iter().filter_map(|body| Link::parse(body)).collect())
}

/// What is to become of an interface. The kernel sets flags before it reads the mode of addresses:
/// [`Self::no_own_address`] must not come in one change with [`Link::UP`].
#[derive(Debug, Clone, Default)]
pub struct LinkChange {
    attributes: Attributes,
    flags: u32,
    mask: u32,
}

impl LinkChange {
    /// A new name, at most 15 bytes; the interface must be down.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.attributes = self.attributes.with_text(IFLA_IFNAME, name);
        self
    }

    /// A new hardware address.
    #[must_use]
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.attributes = self.attributes.with(IFLA_ADDRESS, &mac);
        self
    }

    /// A new limit of packets, in bytes.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.attributes = self.attributes.with_number(IFLA_MTU, mtu);
        self
    }

    /// A new length of the transmit queue, in packets.
    #[must_use]
    pub fn tx_queue_length(mut self, length: u32) -> Self {
        self.attributes = self.attributes.with_number(IFLA_TXQLEN, length);
        self
    }

    /// The kernel makes no IPv6 address for it by itself.
    #[must_use]
    pub fn no_own_address(mut self) -> Self {
        let mode = Attributes::default().with(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        let families = Attributes::default().with_nested(AF_INET6, &mode);
        self.attributes = self.attributes.with_nested(IFLA_AF_SPEC, &families);
        self
    }

    /// Those of the flags in `mask` that are in `flags` are set, the others cleared.
    #[must_use]
    pub fn flags(mut self, flags: u32, mask: u32) -> Self {
        self.flags = (self.flags & !mask) | (flags & mask);
        self.mask |= mask;
        self
    }

    /// Carries it out.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn apply(&self, socket: &mut Socket, index: u32) -> io::Result<()> {
        let mut body = vec![0; 4];
        body.extend_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&self.flags.to_ne_bytes());
        body.extend_from_slice(&self.mask.to_ne_bytes());
        body.extend_from_slice(&self.attributes.to_bytes());
        socket.change(RTM_NEWLINK, 0, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_read_whole() {
        let all = links(&mut Socket::open().unwrap()).unwrap();
        let lo = all.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.flags & Link::LOOPBACK != 0 && lo.index > 0 && lo.mtu > 0, "{lo:?}");
        assert_ne!(lo.hardware, Link::ETHERNET);
        assert_eq!(lo.kind, None);
    }
}
