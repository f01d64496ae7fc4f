//! A program that decides which listener gets a new TCP connection (`BPF_PROG_TYPE_SK_LOOKUP`,
//! Linux 5.9): connections to loopback, at whatever port, get ours. It sees nothing else: not what
//! goes to other addresses, and no packet of a connection that exists.
#![allow(unsafe_code, reason = "bpf is in no safe library that we use")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;

const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
const BPF_SK_LOOKUP: u32 = 36;

/// One instruction of eBPF, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination register in the low half, source register in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `union bpf_attr` for `BPF_MAP_CREATE`, up to `max_entries`.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to `expected_attach_type`.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// `union bpf_attr` for `BPF_LINK_CREATE`, up to `flags`.
#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// Where in the map a family's listener is.
const V4: u32 = 0;
const V6: u32 = 1;

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

const TCP: i32 = libc::IPPROTO_TCP;

/// Number of instructions.
const LENGTH: usize = 36;

/// The program. r6 is the context (`struct bpf_sk_lookup`: family at 8, protocol at 12, local IPv4
/// address at 40, local IPv6 address at 44), r7 the place in the map, later the listener. A jump's
/// distance counts from the instruction after it; all that give up lead to the last two.
fn program(map: i32) -> [Instruction; LENGTH] {
    const LOAD: u8 = 0x61;
    const STORE: u8 = 0x63;
    const AND: u8 = 0x57;
    const ADD: u8 = 0x07;
    const SET: u8 = 0xb7;
    const COPY: u8 = 0xbf;
    const JUMP: u8 = 0x05;
    const EQUAL: u8 = 0x15;
    const UNEQUAL: u8 = 0x55;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const LOAD_MAP: u8 = 0x18;
    [
        instruction(COPY, 0x16, 0, 0),
        instruction(LOAD, 0x62, 12, 0),
        instruction(UNEQUAL, 0x02, 31, TCP),
        instruction(LOAD, 0x62, 8, 0),
        instruction(EQUAL, 0x02, 6, libc::AF_INET6),
        instruction(UNEQUAL, 0x02, 28, libc::AF_INET),
        // 127.0.0.0/8: the first byte in memory is the lowest.
        instruction(LOAD, 0x62, 40, 0),
        instruction(AND, 0x02, 0, 0xff),
        instruction(UNEQUAL, 0x02, 25, 127),
        instruction(SET, 0x07, 0, V4.cast_signed()),
        instruction(JUMP, 0, 9, 0),
        // ::1
        instruction(LOAD, 0x62, 44, 0),
        instruction(UNEQUAL, 0x02, 21, 0),
        instruction(LOAD, 0x62, 48, 0),
        instruction(UNEQUAL, 0x02, 19, 0),
        instruction(LOAD, 0x62, 52, 0),
        instruction(UNEQUAL, 0x02, 17, 0),
        instruction(LOAD, 0x62, 56, 0),
        instruction(UNEQUAL, 0x02, 15, 1_i32.to_be()),
        instruction(SET, 0x07, 0, V6.cast_signed()),
        // bpf_map_lookup_elem(map, &key), the key being on the stack.
        instruction(STORE, 0x7a, -4, 0),
        instruction(COPY, 0xa2, 0, 0),
        instruction(ADD, 0x02, 0, -4),
        instruction(LOAD_MAP, 0x11, 0, map),
        instruction(0, 0, 0, 0),
        instruction(CALL, 0, 0, 1),
        instruction(EQUAL, 0x00, 7, 0),
        // bpf_sk_assign(context, listener, 0)
        instruction(COPY, 0x07, 0, 0),
        instruction(COPY, 0x61, 0, 0),
        instruction(COPY, 0x72, 0, 0),
        instruction(SET, 0x03, 0, 0),
        instruction(CALL, 0, 0, 124),
        // bpf_sk_release(listener)
        instruction(COPY, 0x71, 0, 0),
        instruction(CALL, 0, 0, 86),
        // SK_PASS: to the listener that was assigned, or to where it would have gone anyway.
        instruction(SET, 0x00, 0, 1),
        instruction(EXIT, 0, 0, 0),
    ]
}

fn raw(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

fn address<T: ?Sized>(of: &T) -> io::Result<u64> {
    u64::try_from(std::ptr::from_ref(of).addr()).map_err(io::Error::other)
}

/// bpf(2) with the attributes of a command.
fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    let pointer = std::ptr::from_ref(attributes);
    // SAFETY: the attributes are those of the command, live and of the stated size, and point to
    // live memory.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

/// A command that makes a descriptor.
fn make<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: bpf(2) returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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
    let map =
        MapCreate { map_type: BPF_MAP_TYPE_SOCKMAP, key_size: 4, value_size: 8, max_entries: 2 };
    let map = make(BPF_MAP_CREATE, &map)?;
    for (key, listener) in [(V4, v4), (V6, v6)] {
        let Some(listener) = listener else { continue };
        let value = u64::from(raw(listener)?);
        let (key, value) = (address(&key)?, address(&value)?);
        let map_fd = raw(map.as_fd())?;
        call(BPF_MAP_UPDATE_ELEM, &MapUpdate { map_fd, padding: 0, key, value, flags: 0 })?;
    }
    let instructions = program(map.as_raw_fd());
    let program = ProgramLoad {
        program_type: BPF_PROG_TYPE_SK_LOOKUP,
        instruction_count: u32::try_from(LENGTH).map_err(io::Error::other)?,
        instructions: address(&instructions)?,
        license: address(c"Apache-2.0")?,
        expected_attach_type: BPF_SK_LOOKUP,
        ..ProgramLoad::default()
    };
    let program = make(BPF_PROG_LOAD, &program)?;
    let link = LinkCreate {
        program_fd: raw(program.as_fd())?,
        target_fd: raw(netns)?,
        attach_type: BPF_SK_LOOKUP,
        flags: 0,
    };
    // The link keeps the program, and the program the map.
    make(BPF_LINK_CREATE, &link)
}
