//! Routes, which begin with `struct rtmsg`: family, lengths of destination and source, TOS, table,
//! protocol, scope, type, 32 bits of flags. A route with several next hops has them in
//! `RTA_MULTIPATH`. Each is a `struct rtnexthop` (16 bits of length, flags, weight, interface) with
//! attributes of its own.

use super::{BY_KERNEL, Object};
use crate::Attributes;

const TABLE: usize = 4;
const PROTOCOL: usize = 5;
const SCOPE: usize = 6;
const TYPE: usize = 7;
const FLAGS: usize = 8;

/// Size of `struct rtnexthop`.
const HOP: usize = 8;

const RT_TABLE_LOCAL: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTPROT_REDIRECT: u8 = 1;
const RTPROT_RA: u8 = 9;
const RTM_F_CLONED: u32 = 0x200;

/// `RTNH_F_PERVASIVE` and `RTNH_F_ONLINK`; the others are states.
const CHOSEN: u8 = 0x2 | 0x4;

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;

/// Cache, session, algorithm, age, uid, mark, age of multicast, padding, and the number of a next
/// hop object, whose contents the listing repeats.
const STATES: [u16; 11] = [3, 10, 11, 12, 14, 16, 17, 23, 24, 25, 30];

/// One next hop.
struct Hop {
    flags: u8,
    weight: u8,
    interface: u32,
    attributes: Attributes,
}

fn hops(route: &Object) -> Vec<Hop> {
    let mut rest = route.attributes.get(RTA_MULTIPATH).unwrap_or_default();
    let mut hops = Vec::new();
    while let Some([a, b, flags, weight, c, d, e, f]) = rest.first_chunk::<HOP>().copied() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(attributes) = rest.get(HOP..length).and_then(Attributes::parse) else { break };
        hops.push(Hop { flags, weight, interface: u32::from_ne_bytes([c, d, e, f]), attributes });
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

fn set_hops(route: &mut Object, hops: &[Hop]) {
    let mut bytes = Vec::new();
    for hop in hops {
        let attributes = hop.attributes.to_bytes();
        let length = u16::try_from(HOP + attributes.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&[hop.flags, hop.weight]);
        bytes.extend_from_slice(&hop.interface.to_ne_bytes());
        bytes.extend_from_slice(&attributes);
    }
    if !bytes.is_empty() {
        route.attributes.set(RTA_MULTIPATH, &bytes);
    }
}

pub(super) fn canonical(mut route: Object) -> Option<Object> {
    let (protocol, kind) = (route.byte(PROTOCOL), route.byte(TYPE));
    let consequence =
        protocol == BY_KERNEL && (route.byte(TABLE) == RT_TABLE_LOCAL || kind != RTN_UNICAST);
    // A guest hears its routers by itself.
    let heard = protocol == RTPROT_RA || protocol == RTPROT_REDIRECT;
    if consequence || heard || route.number(FLAGS) & RTM_F_CLONED != 0 {
        return None;
    }
    let mut hops = hops(&route);
    let flags = route.number(FLAGS) & u32::from(CHOSEN);
    route.put(FLAGS, &flags.to_ne_bytes());
    route.attributes.remove(&STATES);
    for hop in &mut hops {
        hop.flags &= CHOSEN;
        hop.attributes.remove(&STATES);
    }
    set_hops(&mut route, &hops);
    Some(route)
}

pub(super) fn is_wrapped(route: &Object) -> bool {
    let wrapped = |attributes: &Attributes| attributes.get(RTA_ENCAP).is_some();
    wrapped(&route.attributes) || hops(route).iter().any(|hop| wrapped(&hop.attributes))
}

pub(super) fn interfaces(route: &Object) -> Vec<u32> {
    let hops = hops(route);
    let several = hops.iter().map(|hop| hop.interface);
    route.attributes.number(RTA_OIF).into_iter().chain(several).collect()
}

pub(super) fn translated(mut route: Object, to: &dyn Fn(u32) -> Option<u32>) -> Option<Object> {
    if let Some(index) = route.attributes.number(RTA_OIF) {
        route.attributes.set(RTA_OIF, &to(index)?.to_ne_bytes());
    }
    let mut hops = hops(&route);
    for hop in &mut hops {
        hop.interface = to(hop.interface)?;
    }
    set_hops(&mut route, &hops);
    Some(route)
}

pub(super) fn identity(route: &Object) -> Object {
    let mut identity = route.clone();
    for at in [PROTOCOL, SCOPE, TYPE] {
        identity.put(at, &[0]);
    }
    identity.put(FLAGS, &[0; 4]);
    identity.attributes = route.attributes.only(&[RTA_DST, RTA_SRC, RTA_PRIORITY, RTA_TABLE]);
    identity
}

/// 0: what lies on the link itself; 1: what lies behind a gateway, to which a route must lead;
/// 2: several gateways.
pub(super) fn distance(route: &Object) -> u8 {
    if route.attributes.get(RTA_MULTIPATH).is_some() {
        return 2;
    }
    let gateway = [RTA_GATEWAY, RTA_VIA].iter().any(|&kind| route.attributes.get(kind).is_some());
    u8::from(gateway)
}

/// Whether the kernel made it for an address.
pub(super) fn is_by_kernel(route: &Object) -> bool {
    route.byte(PROTOCOL) == BY_KERNEL
}
