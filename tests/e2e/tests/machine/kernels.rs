//! Kernels of a few instructions that do one thing, for ends that Linux would avoid.

use std::io::Write;
use std::os::fd::OwnedFd;

/// Where they are loaded and entered.
const ENTRY: u64 = 1 << 20;

/// An ELF kernel that consists of `code`, entered at its first byte in 64-bit mode.
pub(crate) fn kernel(code: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&elf(code)).unwrap();
    file.into()
}

pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01"); // 64-bit, little endian, version 1
    put(16, &[2, 0, 62, 0]); // executable, x86-64
    put(24, &ENTRY.to_le_bytes());
    put(32, &64_u64.to_le_bytes()); // program headers follow
    put(52, &[64, 0, 56, 0, 1, 0]); // sizes, one program header
    put(64, &[1, 0, 0, 0, 7, 0, 0, 0]); // PT_LOAD, rwx
    put(72, &120_u64.to_le_bytes());
    put(88, &ENTRY.to_le_bytes());
    put(96, &(code.len() as u64).to_le_bytes());
    put(104, &(code.len() as u64).to_le_bytes());
    bytes.extend_from_slice(code);
    bytes
}

/// `out port, value`, then halt for good.
pub(crate) fn out(port: u16, value: u8) -> OwnedFd {
    let [low, high] = port.to_le_bytes();
    #[rustfmt::skip]
    let code = [
        0x66, 0xba, low, high, // mov dx, port
        0xb0, value,           // mov al, value
        0xee,                  // out dx, al
        0xf4,                  // hlt
        0xeb, 0xfd,            // jmp back to hlt
    ];
    kernel(&code)
}

/// Loads an empty interrupt table and takes an exception.
pub(crate) fn triple_fault() -> OwnedFd {
    #[rustfmt::skip]
    let code = [
        0x6a, 0x00, 0x6a, 0x00, // push 0, push 0: needs no stack that is mapped, only one
        0x0f, 0x01, 0x1c, 0x24, // lidt [rsp]
        0x0f, 0x0b,             // ud2
    ];
    kernel(&code)
}

/// Jumps to a page-table-mapped address where there is no memory: KVM can't emulate that.
pub(crate) fn jump_to_nothing() -> OwnedFd {
    #[rustfmt::skip]
    let code = [
        0xb8, 0x00, 0x00, 0x00, 0x30, // mov eax, 0x30000000 (768 MiB)
        0xff, 0xe0,                   // jmp rax
    ];
    kernel(&code)
}

/// Spins for ever.
pub(crate) fn spin() -> OwnedFd {
    kernel(&[0xeb, 0xfe])
}
