//! Neighbours: `struct ndmsg` is family, 3 bytes of padding, the interface's index, 16 bits of
//! state, flags and type.

use super::{AF_INET, AF_INET6, Object};

const STATE: usize = 8;
const FLAGS: usize = 10;
const TYPE: usize = 11;

const NUD_PERMANENT: u16 = 0x80;
const NTF_PROXY: u8 = 0x08;
const NTF_ROUTER: u8 = 0x80;

const NDA_DST: u16 = 1;
const NDA_CACHEINFO: u16 = 3;
const NDA_PROBES: u16 = 4;

/// What lists the proxied ones of a family; other listings leave them out.
pub(super) fn proxies(family: u8) -> Vec<u8> {
    let mut header = vec![0; 12];
    for (at, value) in [(0, family), (FLAGS, NTF_PROXY)] {
        if let Some(byte) = header.get_mut(at) {
            *byte = value;
        }
    }
    header
}

pub(super) fn canonical(mut neighbour: Object) -> Option<Object> {
    let state = u16::from_ne_bytes([neighbour.byte(STATE), neighbour.byte(STATE + 1)]);
    let flags = neighbour.byte(FLAGS);
    let is_static = state & NUD_PERMANENT != 0 || flags & NTF_PROXY != 0;
    if !is_static || ![AF_INET, AF_INET6].contains(&neighbour.byte(0)) {
        return None;
    }
    neighbour.put(STATE, &(state & NUD_PERMANENT).to_ne_bytes());
    neighbour.put(FLAGS, &[flags & (NTF_PROXY | NTF_ROUTER)]);
    neighbour.put(TYPE, &[0]);
    neighbour.attributes.remove(&[NDA_CACHEINFO, NDA_PROBES]);
    Some(neighbour)
}

pub(super) fn identity(neighbour: &Object) -> Object {
    let mut identity = neighbour.clone();
    identity.put(STATE, &[0, 0]);
    identity.put(FLAGS, &[neighbour.byte(FLAGS) & NTF_PROXY]);
    identity.attributes = identity.attributes.only(&[NDA_DST]);
    identity
}
