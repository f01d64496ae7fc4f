//! A program that decides which listener gets a new TCP connection: connections to loopback, at
//! whatever port, get ours. It sees nothing else: not what goes to other addresses, and no packet
//! of a connection that exists.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use syscalls::bpf::opcode::{
    ADD, AND, CALL, COPY, EXIT, JUMP, JUMP_IF_EQUAL, JUMP_UNLESS_EQUAL, LOAD, SET, STORE,
};
use syscalls::bpf::{Instruction, Kind, Program, SocketMap};

/// Where in the map a family's listener is.
const V4: u32 = 0;
const V6: u32 = 1;

const TCP: i32 = libc::IPPROTO_TCP;

/// Number of instructions.
const LENGTH: usize = 36;

/// The program. r6 is the context (`struct bpf_sk_lookup`: family at 8, protocol at 12, local IPv4
/// address at 40, local IPv6 address at 44), r7 the place in the map, later the listener. A jump's
/// distance counts from the instruction after it; all that give up lead to the last two.
fn program(listeners: &SocketMap) -> [Instruction; LENGTH] {
    let [map, map_rest] = listeners.load_into(1);
    let op = Instruction::new;
    [
        op(COPY, 6, 1, 0, 0),
        op(LOAD, 2, 6, 12, 0),
        op(JUMP_UNLESS_EQUAL, 2, 0, 31, TCP),
        op(LOAD, 2, 6, 8, 0),
        op(JUMP_IF_EQUAL, 2, 0, 6, libc::AF_INET6),
        op(JUMP_UNLESS_EQUAL, 2, 0, 28, libc::AF_INET),
        // 127.0.0.0/8: the first byte in memory is the lowest.
        op(LOAD, 2, 6, 40, 0),
        op(AND, 2, 0, 0, 0xff),
        op(JUMP_UNLESS_EQUAL, 2, 0, 25, 127),
        op(SET, 7, 0, 0, V4.cast_signed()),
        op(JUMP, 0, 0, 9, 0),
        // ::1
        op(LOAD, 2, 6, 44, 0),
        op(JUMP_UNLESS_EQUAL, 2, 0, 21, 0),
        op(LOAD, 2, 6, 48, 0),
        op(JUMP_UNLESS_EQUAL, 2, 0, 19, 0),
        op(LOAD, 2, 6, 52, 0),
        op(JUMP_UNLESS_EQUAL, 2, 0, 17, 0),
        op(LOAD, 2, 6, 56, 0),
        op(JUMP_UNLESS_EQUAL, 2, 0, 15, 1_i32.to_be()),
        op(SET, 7, 0, 0, V6.cast_signed()),
        // bpf_map_lookup_elem(map, &key), the key being on the stack.
        op(STORE, 10, 7, -4, 0),
        op(COPY, 2, 10, 0, 0),
        op(ADD, 2, 0, 0, -4),
        map,
        map_rest,
        op(CALL, 0, 0, 0, 1),
        op(JUMP_IF_EQUAL, 0, 0, 7, 0),
        // bpf_sk_assign(context, listener, 0)
        op(COPY, 7, 0, 0, 0),
        op(COPY, 1, 6, 0, 0),
        op(COPY, 2, 7, 0, 0),
        op(SET, 3, 0, 0, 0),
        op(CALL, 0, 0, 0, 124),
        // bpf_sk_release(listener)
        op(COPY, 1, 7, 0, 0),
        op(CALL, 0, 0, 0, 86),
        // SK_PASS: to the listener that was assigned, or to where it would have gone anyway.
        op(SET, 0, 0, 0, 1),
        op(EXIT, 0, 0, 0, 0),
    ]
}

/// Gives all new TCP connections to loopback in the network namespace `netns` to one listener for
/// each family, as long as the returned descriptor is open.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn steer(
    netns: BorrowedFd<'_>,
    v4: Option<BorrowedFd<'_>>,
    v6: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    let listeners = SocketMap::new(2)?;
    for (number, listener) in [(V4, v4), (V6, v6)] {
        if let Some(listener) = listener {
            listeners.put(number, listener)?;
        }
    }
    // The link keeps the program, and the program the map.
    Program::load(Kind::SocketLookup, &program(&listeners))?.link(netns)
}
