//! Traffic control: all that arrives at one interface leaves by another.
//!
//! Each interface has a `clsact` queueing discipline and in it one filter on ingress. The filter
//! matches everything and redirects it (`mirred`). It is `u32` with an empty mask, which every
//! kernel that has filters has. Packets keep their offload state on the way. If the machine's
//! driver takes it, the tap hands on unsegmented what a veth sends unsegmented.

use std::io;

use netlink::{Attributes, Socket};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const ROOT: u32 = 0xffff_ffff;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// After all filters that others may have put there, and how ours are found again.
const PRIORITY: u32 = 0xcdd1;

/// `ETH_P_ALL` in network byte order.
const ALL_PROTOCOLS: u32 = 0x0300;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;

/// `struct tc_u32_sel` with one key: terminal, one key, offset 0, mask 0.
const EVERYTHING: [u8; 32] = {
    let mut selector = [0; 32];
    selector[0] = 1;
    selector[2] = 1;
    selector
};

/// `struct tcmsg`.
fn message(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, index, handle, parent, info].iter().flat_map(|part| part.to_ne_bytes()).collect()
}

fn discipline(index: u32) -> Vec<u8> {
    let kind = Attributes::default().with_text(TCA_KIND, "clsact");
    [message(index, CLSACT_HANDLE, CLSACT, 0), kind.to_bytes()].concat()
}

fn filter(from: u32, to: u32) -> Vec<u8> {
    // `struct tc_mirred`: index, capabilities, action, references, bindings, what to do, where.
    let mirred = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to];
    let mirred: Vec<u8> = mirred.iter().flat_map(|part| part.to_ne_bytes()).collect();
    let options = Attributes::default().with(TCA_MIRRED_PARMS, &mirred);
    let action = Attributes::default()
        .with_text(TCA_ACT_KIND, "mirred")
        .with_nested(TCA_ACT_OPTIONS, &options);
    let options = Attributes::default()
        .with(TCA_U32_SEL, &EVERYTHING)
        .with_nested(TCA_U32_ACT, &Attributes::default().with_nested(1, &action));
    let filter =
        Attributes::default().with_text(TCA_KIND, "u32").with_nested(TCA_OPTIONS, &options);
    let header = message(from, 0, INGRESS, PRIORITY << 16 | ALL_PROTOCOLS);
    [header, filter.to_bytes()].concat()
}

/// Lets an interface that is down be without queueing disciplines when it comes up. A tap of several
/// queue pairs has 256 send queues, and the kernel's default disciplines for them take 6.4 MiB
/// (Linux 6.12); its own ring is the only queue that ever fills.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn leave_unqueued(socket: &mut Socket, index: u32) -> io::Result<()> {
    let kind = Attributes::default().with_text(TCA_KIND, "noqueue");
    let request = [message(index, 0, ROOT, 0), kind.to_bytes()].concat();
    socket.change(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &request)
}

/// Sends all that arrives at `from` out by `to`.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn add(socket: &mut Socket, from: u32, to: u32) -> io::Result<()> {
    match socket.change(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &discipline(from)) {
        // Somebody else's has a place for our filter as well.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    socket.change(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &filter(from, to))
}

/// Takes the redirection of `from` away, if there is one, and the discipline if nobody else has
/// filters in it.
pub(crate) fn remove(socket: &mut Socket, from: u32) {
    let ours = message(from, 0, INGRESS, PRIORITY << 16 | ALL_PROTOCOLS);
    if socket.change(RTM_DELTFILTER, 0, &ours).is_err() {
        return;
    }
    let mut is_empty = |parent| {
        let filters = socket.dump(RTM_GETTFILTER, &message(from, 0, parent, 0));
        filters.is_ok_and(|filters| filters.is_empty())
    };
    if is_empty(INGRESS) && is_empty(EGRESS) {
        // It may have gone with its interface.
        let _gone = socket.change(RTM_DELQDISC, 0, &discipline(from));
    }
}
