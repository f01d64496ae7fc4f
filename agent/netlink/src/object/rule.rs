//! Rules: `struct fib_rule_hdr` is family, lengths of destination and source, TOS, table, two bytes
//! of padding, action, 32 bits of flags. They name interfaces by their names, which are the same in
//! the guest.

use super::{BY_KERNEL, Object};

const RESERVED: usize = 5;
const FLAGS: usize = 8;

const FIB_RULE_INVERT: u32 = 0x2;

const FRA_PROTOCOL: u16 = 21;

pub(super) fn canonical(mut rule: Object) -> Option<Object> {
    if rule.attributes.get(FRA_PROTOCOL) == Some(&[BY_KERNEL]) {
        return None;
    }
    rule.put(RESERVED, &[0, 0]);
    // Whether an interface exists is a state.
    let flags = rule.number(FLAGS) & FIB_RULE_INVERT;
    rule.put(FLAGS, &flags.to_ne_bytes());
    Some(rule)
}
