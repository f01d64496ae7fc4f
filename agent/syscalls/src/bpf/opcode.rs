//! Operations of eBPF instructions that are in use here (the kernel's
//! Documentation/bpf/standardization/instruction-set.rst). `to` and `from` are the instruction's
//! registers.

/// `to` = the 32 bits in memory at `from` + offset.
pub const LOAD: u8 = 0x61;
/// The 32 bits in memory at `to` + offset = `from`.
pub const STORE: u8 = 0x63;
/// `to` = the constant of this and the next instruction, 64 bits together.
pub const LOAD_WIDE: u8 = 0x18;
/// `to` = `from`.
pub const COPY: u8 = 0xbf;
/// `to` = the lower 32 bits of `from`.
pub const COPY_32: u8 = 0xbc;
/// `to` = the constant.
pub const SET: u8 = 0xb7;
/// `to` = the constant, the upper 32 bits 0.
pub const SET_32: u8 = 0xb4;
/// `to` = `to` + the constant.
pub const ADD: u8 = 0x07;
/// `to` = the bits that `to` and the constant share.
pub const AND: u8 = 0x57;
/// `to` = the lower 32 bits that `to` and the constant share.
pub const AND_32: u8 = 0x54;
/// `to` = the lower 32 bits of `to`, moved right by the constant.
pub const SHIFT_RIGHT_32: u8 = 0x74;
/// Jumps.
pub const JUMP: u8 = 0x05;
/// Jumps if `to` is the constant.
pub const JUMP_IF_EQUAL: u8 = 0x15;
/// Jumps if `to` is not the constant.
pub const JUMP_UNLESS_EQUAL: u8 = 0x55;
/// Calls the kernel's function of the constant's number, with registers 1 to 5 as arguments; its
/// result is in register 0.
pub const CALL: u8 = 0x85;
/// Ends the program with register 0 as result.
pub const EXIT: u8 = 0x95;
