//! Transfers between guest memory and descriptors of the host, many pieces at a time.
//!
//! `vm-memory` moves one piece a call. A packet of a tap has to be moved by one call. A request of
//! a disk costs one call less for each piece but the first.
#![allow(unsafe_code, reason = "the kernel gets addresses of guest memory")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{c_int, iovec};
use vm_memory::VolatileSlice;

/// Reads from `file` at `offset` into `slices`, in order; returns how many bytes.
///
/// # Errors
/// The host's; `InvalidInput` for an offset above 2⁶³ − 1 or more slices than the host takes.
pub fn read_at(file: &File, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let offset = position(offset)?;
    with_pieces(slices, |pieces, count| {
        // SAFETY: the pieces are guest memory, which any byte may be written to at any time.
        done(unsafe { libc::preadv(file.as_raw_fd(), pieces, count, offset) })
    })
}

/// Writes `slices`, in order, to `file` at `offset`; returns how many bytes.
///
/// # Errors
/// As [`read_at`].
pub fn write_at(file: &File, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let offset = position(offset)?;
    with_pieces(slices, |pieces, count| {
        // SAFETY: the pieces are guest memory, of which the kernel only reads.
        done(unsafe { libc::pwritev(file.as_raw_fd(), pieces, count, offset) })
    })
}

/// Reads what `file` has next into `slices`, in order; returns how many bytes.
///
/// # Errors
/// The host's; `InvalidInput` for more slices than the host takes.
pub fn read(file: &File, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    with_pieces(slices, |pieces, count| {
        // SAFETY: the pieces are guest memory, which any byte may be written to at any time.
        done(unsafe { libc::readv(file.as_raw_fd(), pieces, count) })
    })
}

/// Writes `slices`, in order, as what comes next in `file`; returns how many bytes.
///
/// # Errors
/// As [`read`].
pub fn write(file: &File, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    with_pieces(slices, |pieces, count| {
        // SAFETY: the pieces are guest memory, of which the kernel only reads.
        done(unsafe { libc::writev(file.as_raw_fd(), pieces, count) })
    })
}

fn position(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Calls `transfer` with the addresses of `slices`, which stay valid for its duration.
fn with_pieces(
    slices: &[VolatileSlice<'_>],
    transfer: impl FnOnce(*const iovec, c_int) -> io::Result<usize>,
) -> io::Result<usize> {
    let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let pieces: Vec<_> = guards
        .iter()
        .map(|guard| iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    let count = c_int::try_from(pieces.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    transfer(pieces.as_ptr(), count)
}

fn done(count: isize) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

    use super::*;

    #[test]
    fn pieces_are_moved_in_order() {
        let memory: GuestMemoryMmap =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        let slices =
            [0x3000, 0x1000].map(|address| memory.get_slice(GuestAddress(address), 3).unwrap());
        let file = tempfile::tempfile().unwrap();
        memory.write_slice(b"one", GuestAddress(0x3000)).unwrap();
        memory.write_slice(b"two", GuestAddress(0x1000)).unwrap();
        assert_eq!(write(&file, &slices).unwrap(), 6);
        assert_eq!(write_at(&file, &slices, 3).unwrap(), 6);
        assert_eq!(read_at(&file, &slices, 4).unwrap(), 5);
        let mut seen = [0; 3];
        memory.read_slice(&mut seen, GuestAddress(0x3000)).unwrap();
        assert_eq!(&seen, b"net");
        // Behind what was written without a place.
        assert_eq!(read(&file, &slices).unwrap(), 3);
        memory.read_slice(&mut seen, GuestAddress(0x3000)).unwrap();
        assert_eq!(&seen, b"two");
        assert!(read_at(&file, &slices, u64::MAX).is_err());
    }
}
