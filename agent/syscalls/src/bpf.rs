//! bpf(2), as far as programs need it that are made of instructions at run time. There are two such
//! programs. One decides on a cgroup's access to devices. The other chooses the listener of new
//! connections in a network namespace.
#![allow(unsafe_code, reason = "bpf is in no safe library that takes instructions")]

pub mod opcode;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_SOCKMAP: u32 = 15;

/// `BPF_F_ALLOW_MULTI`: what is attached already goes on to decide, too.
const ALLOW_MULTI: u32 = 2;

/// One instruction of eBPF, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation, see [`opcode`].
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    pub registers: u8,
    /// Distance of a jump, counted from the instruction after it, or of memory from a register.
    pub offset: i16,
    /// Constant.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction with the registers `to` and `from`, 0 to 10; 0 where it uses none.
    pub const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: (from << 4) | (to & 0xf), offset, immediate }
    }
}

/// What a program decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whether processes of a cgroup may use a device (`BPF_PROG_TYPE_CGROUP_DEVICE`).
    CgroupDevice,
    /// Which listener gets a new connection (`BPF_PROG_TYPE_SK_LOOKUP`, Linux 5.9).
    SocketLookup,
}

impl Kind {
    const fn program_type(self) -> u32 {
        match self {
            Self::CgroupDevice => 15,
            Self::SocketLookup => 30,
        }
    }

    /// `BPF_CGROUP_DEVICE` or `BPF_SK_LOOKUP`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::CgroupDevice => 6,
            Self::SocketLookup => 36,
        }
    }
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

/// `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`, up to `attach_flags`.
#[repr(C)]
struct Attach {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_LINK_CREATE`, up to `flags`.
#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// Listeners by number, which a program of [`Kind::SocketLookup`] can choose from
/// (`BPF_MAP_TYPE_SOCKMAP`).
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl SocketMap {
    /// Makes a map with room for so many sockets.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn new(entries: u32) -> io::Result<Self> {
        let (map_type, max_entries) = (MAP_TYPE_SOCKMAP, entries);
        let attributes = MapCreate { map_type, key_size: 4, value_size: 8, max_entries };
        // SAFETY: the attributes are those of the command and hold no pointers.
        unsafe { make(MAP_CREATE, &attributes) }.map(Self)
    }

    /// Puts a socket at a number below the map's size.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn put(&self, number: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = u64::from(raw(socket)?);
        let (key, value) = (address(&number)?, address(&value)?);
        let attributes =
            MapUpdate { map_fd: raw(self.0.as_fd())?, padding: 0, key, value, flags: 0 };
        // SAFETY: the attributes are those of the command, and point to a key and a value of the
        // sizes with which the map was made.
        unsafe { call(MAP_UPDATE_ELEM, &attributes) }.map(drop)
    }

    /// Loads the map into the register `to`: two instructions ([`opcode::LOAD_WIDE`]).
    ///
    /// A program that was loaded with them keeps the map.
    pub fn load_into(&self, to: u8) -> [Instruction; 2] {
        /// `BPF_PSEUDO_MAP_FD`: the constant is a descriptor.
        const IS_MAP: u8 = 1;
        [
            Instruction::new(opcode::LOAD_WIDE, to, IS_MAP, 0, self.0.as_raw_fd()),
            Instruction::new(0, 0, 0, 0, 0),
        ]
    }
}

/// A program that the kernel has accepted.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    kind: Kind,
}

impl Program {
    /// Has the kernel verify and load a program.
    ///
    /// # Errors
    /// What the kernel answered; `EINVAL` or `EACCES` for instructions that it does not accept.
    pub fn load(kind: Kind, instructions: &[Instruction]) -> io::Result<Self> {
        let attributes = ProgramLoad {
            program_type: kind.program_type(),
            instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            instructions: address(instructions)?,
            license: address(c"Apache-2.0")?,
            expected_attach_type: kind.attach_type(),
            ..ProgramLoad::default()
        };
        // SAFETY: the attributes are those of the command, and point to as many instructions as
        // they say and to a C string.
        let fd = unsafe { make(PROG_LOAD, &attributes) }?;
        Ok(Self { fd, kind })
    }

    /// Makes the program decide for a cgroup or whatever else it is for, together with all that
    /// are attached there already, as long as that exists.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn attach(&self, target: BorrowedFd<'_>) -> io::Result<()> {
        self.attach_command(PROG_ATTACH, target, ALLOW_MULTI)
    }

    /// Undoes [`Self::attach`].
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn detach(&self, target: BorrowedFd<'_>) -> io::Result<()> {
        self.attach_command(PROG_DETACH, target, 0)
    }

    fn attach_command(
        &self,
        command: libc::c_int,
        target: BorrowedFd<'_>,
        flags: u32,
    ) -> io::Result<()> {
        let (target_fd, program_fd) = (raw(target)?, raw(self.fd.as_fd())?);
        let attach_type = self.kind.attach_type();
        let attributes = Attach { target_fd, program_fd, attach_type, flags };
        // SAFETY: the attributes are those of the command and hold no pointers.
        unsafe { call(command, &attributes) }.map(drop)
    }

    /// Makes the program decide for a network namespace or whatever else it is for, as long as the
    /// returned descriptor is open; that keeps the program.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn link(&self, target: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let (target_fd, program_fd) = (raw(target)?, raw(self.fd.as_fd())?);
        let attach_type = self.kind.attach_type();
        let attributes = LinkCreate { program_fd, target_fd, attach_type, flags: 0 };
        // SAFETY: the attributes are those of the command and hold no pointers.
        unsafe { make(LINK_CREATE, &attributes) }
    }
}

fn raw(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

fn address<T: ?Sized>(of: &T) -> io::Result<u64> {
    u64::try_from(std::ptr::from_ref(of).addr()).map_err(io::Error::other)
}

/// bpf(2).
///
/// # Safety
/// The attributes are those of the command, and what they point to is live and as large as they
/// say.
unsafe fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    let pointer = std::ptr::from_ref(attributes);
    // SAFETY: the attributes are live and of the stated size; for the rest answers the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

/// A command that makes a descriptor.
///
/// # Safety
/// As for [`call`], and the command is one that returns a new descriptor.
unsafe fn make<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { call(command, attributes) }?;
    // SAFETY: the command returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests;
