//! Images read by others than the writer: a reader of our own, erofs-utils, and the kernel.
//!
//! The tests need `fsck.erofs`, `dump.erofs` and `mkfs.erofs`, a kernel from 6.12 on that mounts
//! EROFS from files, and root.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

#[cfg(test)]
mod kernel;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod semantics;

/// The same model and reader as the fuzzer has; its `crate::` are the names below.
#[path = "../../src/fuzzing.rs"]
pub mod fuzzing;

use erofs::{
    Error, Inode, Kind, Layout, Limits, Meta, Mtime, Options, ReadError, Reader, Special, Summary,
    Writer, Xattrs,
};

/// Bytes that look like chance, but are the same each time (xorshift64).
#[cfg(test)]
fn noise(number: u64, len: usize) -> Vec<u8> {
    let mut seed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn random_trees_are_read_back_as_they_were_written() {
    for number in 1..500 {
        let len = 100 + usize::try_from(number).unwrap() * 37 % 4000;
        fuzzing::run(&noise(number, len));
    }
}
