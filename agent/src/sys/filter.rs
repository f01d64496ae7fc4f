//! Installation of seccomp filters.
#![allow(unsafe_code, reason = "seccomp is in no safe library that takes a whole program")]

use std::io;

use serde::{Deserialize, Serialize};

/// One instruction of classic BPF, `struct sock_filter`; in a message, its four parts in order.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u16, u8, u8, u32)", into = "(u16, u8, u8, u32)")]
pub(crate) struct Instruction {
    /// Operation.
    pub(crate) code: u16,
    /// Instructions to skip if a condition holds.
    pub(crate) jump_true: u8,
    /// Instructions to skip if it does not.
    pub(crate) jump_false: u8,
    /// Operand.
    pub(crate) operand: u32,
}

/// A profile, ready to be installed in every process of its container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Filter {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) flags: libc::c_ulong,
}

impl From<(u16, u8, u8, u32)> for Instruction {
    fn from((code, jump_true, jump_false, operand): (u16, u8, u8, u32)) -> Self {
        Self { code, jump_true, jump_false, operand }
    }
}

impl From<Instruction> for (u16, u8, u8, u32) {
    fn from(Instruction { code, jump_true, jump_false, operand }: Instruction) -> Self {
        (code, jump_true, jump_false, operand)
    }
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Filters the system calls of this thread from now on, seccomp(2).
pub(crate) fn install(instructions: &[Instruction], flags: libc::c_ulong) -> io::Result<()> {
    let length = u16::try_from(instructions.len()).map_err(io::Error::other)?;
    let program = Program { length, instructions: instructions.as_ptr() };
    // SAFETY: the program is live and its length is that of the instructions.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    super::check(result).map(drop)
}
