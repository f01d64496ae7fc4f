//! Addresses: `struct ifaddrmsg` is family, prefix length, flags, scope, and the interface's index.

use super::{AF_INET6, Object};

const FLAGS: usize = 2;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_ANYCAST: u16 = 5;
const IFA_CACHEINFO: u16 = 6;
const IFA_MULTICAST: u16 = 7;
const IFA_FLAGS: u16 = 8;
const IFA_TARGET_NETNSID: u16 = 10;
const IFA_PROTO: u16 = 11;

/// Secondary for IPv4, which the kernel finds out; for IPv6 a temporary address, which it makes.
const IFA_F_TEMPORARY: u32 = 0x1;
const IFA_F_NODAD: u32 = 0x2;
const IFA_F_HOMEADDRESS: u32 = 0x10;
const IFA_F_PERMANENT: u32 = 0x80;
const IFA_F_MANAGETEMPADDR: u32 = 0x100;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const IFA_F_MCAUTOJOIN: u32 = 0x400;

/// Flags that somebody chose; the others are states.
const CHOSEN: u32 = IFA_F_HOMEADDRESS | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN;

/// `IFAPROT_KERNEL_LO` and `IFAPROT_KERNEL_RA`.
const LOOPBACK_OR_ANNOUNCED: [&[u8]; 2] = [&[1], &[2]];

pub(super) fn canonical(mut address: Object) -> Option<Object> {
    let attributes = &mut address.attributes;
    let flags = attributes.number(IFA_FLAGS).unwrap_or_default();
    let proto = attributes.get(IFA_PROTO);
    let announced = flags & IFA_F_MANAGETEMPADDR != 0 && flags & IFA_F_PERMANENT == 0;
    let by_kernel = proto.is_some_and(|proto| LOOPBACK_OR_ANNOUNCED.contains(&proto));
    let is_v6 = address.header.first() == Some(&AF_INET6);
    if by_kernel || is_v6 && (announced || flags & IFA_F_TEMPORARY != 0) || is_loopback(&address) {
        return None;
    }
    let attributes = &mut address.attributes;
    attributes.remove(&[IFA_ANYCAST, IFA_MULTICAST, IFA_TARGET_NETNSID, IFA_PROTO]);
    // Preferred and valid lifetime; created and changed, which follow, are this kernel's.
    let lifetimes = attributes.get(IFA_CACHEINFO).and_then(|ages| ages.get(..8)).map(Vec::from);
    match lifetimes {
        Some(lifetimes) if lifetimes != [0xff; 8] => {
            attributes.set(IFA_CACHEINFO, &[lifetimes.as_slice(), &[0; 8]].concat());
        }
        _ => attributes.remove(&[IFA_CACHEINFO]),
    }
    Some(flagged(address, flags & CHOSEN))
}

/// The addresses that every loopback interface has.
fn is_loopback(address: &Object) -> bool {
    let local = address.attributes.get(IFA_LOCAL).or(address.attributes.get(IFA_ADDRESS));
    let v6 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    local == Some(&[127, 0, 0, 1]) || local == Some(&v6)
}

fn flagged(mut address: Object, flags: u32) -> Object {
    let [low, ..] = flags.to_le_bytes();
    address.put(FLAGS, &[low]);
    address.attributes.set(IFA_FLAGS, &flags.to_ne_bytes());
    address
}

/// The address without duplicate address detection, which the host's kernel did already.
pub(super) fn without_detection(address: &Object) -> Object {
    let flags = address.attributes.number(IFA_FLAGS).unwrap_or_default();
    let nodad = if address.byte(0) == AF_INET6 { IFA_F_NODAD } else { 0 };
    flagged(address.clone(), flags | nodad)
}

pub(super) fn identity(address: &Object) -> Object {
    let mut identity = flagged(address.clone(), 0);
    identity.put(3, &[0]);
    identity.attributes = identity.attributes.only(&[IFA_ADDRESS, IFA_LOCAL]);
    identity
}
