//! The parts of bpf(2) that the device controller of cgroup v2 needs.
#![allow(unsafe_code, reason = "bpf is in no safe library that we use")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of eBPF, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Operation.
    pub(crate) code: u8,
    /// Destination register in the low half, source register in the high half.
    pub(crate) registers: u8,
    /// Jump distance or memory offset.
    pub(crate) offset: i16,
    /// Constant.
    pub(crate) immediate: i32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The fields of `union bpf_attr` for `BPF_PROG_LOAD`, up to `prog_flags`.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The fields of `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

fn raw(fd: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(fd.as_raw_fd()).map_err(io::Error::other)
}

/// Loads a program that decides on access to devices.
pub(crate) fn load_device_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: u64::try_from(instructions.as_ptr().addr()).map_err(io::Error::other)?,
        license: u64::try_from(c"Apache-2.0".as_ptr().addr()).map_err(io::Error::other)?,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    let (pointer, size) = (&raw const attributes, size_of::<Load>());
    // SAFETY: the attributes are live, of the stated size, and point to live memory.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, pointer, size) };
    let fd = i32::try_from(super::check(result)?).map_err(io::Error::other)?;
    // SAFETY: bpf(2) returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `program` decide for a cgroup, together with all that are attached already.
pub(crate) fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Attach {
        target_fd: raw(cgroup)?,
        program_fd: raw(program)?,
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    let (pointer, size) = (&raw const attributes, size_of::<Attach>());
    // SAFETY: the attributes are live and of the stated size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, pointer, size) };
    super::check(result).map(drop)
}

/// Undoes [`attach`].
pub(crate) fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Attach {
        target_fd: raw(cgroup)?,
        program_fd: raw(program)?,
        attach_type: BPF_CGROUP_DEVICE,
        flags: 0,
    };
    let (pointer, size) = (&raw const attributes, size_of::<Attach>());
    // SAFETY: the attributes are live and of the stated size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_DETACH, pointer, size) };
    super::check(result).map(drop)
}
