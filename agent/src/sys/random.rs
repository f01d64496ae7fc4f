//! The kernel's random number generator, random(4).
#![allow(unsafe_code, reason = "entropy is credited by ioctl(2)")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Most bytes that one call credits; more than the generator's whole state.
pub(crate) const MAX_SEED: usize = 512;

/// `struct rand_pool_info` of linux/random.h with a buffer of fixed size.
#[repr(C)]
struct Pool {
    entropy_bits: libc::c_int,
    size: libc::c_int,
    bytes: [u8; MAX_SEED],
}

/// `RNDADDENTROPY` = `_IOW('R', 0x03, int[2])`.
const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
/// `RNDRESEEDCRNG` = `_IO('R', 0x07)`.
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;

/// Adds `seed` to the generator, credits every bit of it, and makes the generator use it at once.
pub(crate) fn credit(seed: &[u8]) -> io::Result<()> {
    let mut pool = Pool { entropy_bits: 0, size: 0, bytes: [0; MAX_SEED] };
    let seed = &seed[..seed.len().min(MAX_SEED)];
    pool.bytes[..seed.len()].copy_from_slice(seed);
    pool.size = libc::c_int::try_from(seed.len()).map_err(io::Error::other)?;
    pool.entropy_bits = pool.size * 8;
    let random = File::options().write(true).open("/dev/random")?;
    // SAFETY: the pool is live and laid out as rand_pool_info with `size` valid bytes behind it.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const pool) };
    super::check(result.into())?;
    // SAFETY: RNDRESEEDCRNG takes no argument.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) };
    super::check(result.into()).map(drop)
}
