//! The guest's wall clock and the host's, which the kernel offers as a PTP clock.
#![allow(unsafe_code, reason = "clock_adjtime and the ioctls of PTP clocks are in no safe library")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const NANOSECONDS: i64 = 1_000_000_000;

/// Looks that one request takes: the quickest counts.
const LOOKS: usize = 3;

/// An offset of more nanoseconds than this comes from a jump and says nothing of the clock's rate.
const LARGEST_LESSON: i64 = 5_000_000;

/// `PTP_MAX_SAMPLES` of linux/ptp_clock.h.
const MAX_LOOKS: usize = 25;

/// `PTP_SYS_OFFSET` = `_IOW('=', 5, struct ptp_sys_offset)`.
const PTP_SYS_OFFSET: libc::c_ulong = 0x4340_3d05;

/// `struct ptp_clock_time`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Time {
    seconds: i64,
    nanoseconds: u32,
    reserved: u32,
}

/// `struct ptp_sys_offset`: system, device, system, device, …, system.
#[repr(C)]
struct Offsets {
    looks: u32,
    reserved: [u32; 3],
    times: [Time; 2 * MAX_LOOKS + 1],
}

impl Time {
    /// Nanoseconds since the epoch.
    fn unix_ns(self) -> i64 {
        self.seconds.saturating_mul(NANOSECONDS).saturating_add(self.nanoseconds.into())
    }
}

/// The host's clock, seen between two looks at the guest's. All in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// The guest's clock before.
    pub(crate) before: i64,
    /// The host's clock.
    pub(crate) host: i64,
    /// The guest's clock after.
    pub(crate) after: i64,
}

/// Looks at the host's clock (`/dev/ptp<n>`), and returns the quickest of some looks.
///
/// # Errors
/// The device is no PTP clock, or the hypervisor does not tell the time now.
pub(crate) fn look(device: &File) -> io::Result<Look> {
    let none = [Time::default(); 2 * MAX_LOOKS + 1];
    let looks = u32::try_from(LOOKS).map_err(io::Error::other)?;
    let mut offsets = Offsets { looks, reserved: [0; 3], times: none };
    // SAFETY: the request is live and laid out as ptp_sys_offset, and asks for less than it holds.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), PTP_SYS_OFFSET, &raw mut offsets) };
    super::check(result.into())?;
    let times = offsets.times[..=2 * LOOKS].iter().map(|time| time.unix_ns());
    let times: Vec<i64> = times.collect();
    let looks = times.windows(3).step_by(2);
    let looks = looks.map(|look| Look { before: look[0], host: look[1], after: look[2] });
    looks
        .min_by_key(|look| look.after.saturating_sub(look.before))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Lets the clock run towards one that is `offset` nanoseconds ahead (at most half a second), and
/// learn how much faster that one runs: the kernel's own loop, a quarter of the offset each second
/// (adjtimex(2), RFC 5905).
///
/// # Errors
/// The kernel refuses.
pub(crate) fn slew(offset: i64, uncertainty: i64) -> io::Result<()> {
    adjust(&mut request(0, offset, uncertainty))
}

/// Moves the clock by `offset` nanoseconds at once, and lets it run as it did before.
///
/// # Errors
/// The kernel refuses, for instance a time before its start.
pub(crate) fn step(offset: i64, uncertainty: i64) -> io::Result<()> {
    let mut request = request(libc::ADJ_SETOFFSET, 0, uncertainty);
    request.time.tv_sec = offset.div_euclid(NANOSECONDS);
    request.time.tv_usec = offset.rem_euclid(NANOSECONDS);
    adjust(&mut request)
}

/// A request of adjtimex(2) with the loop on at its shortest time constant.
fn request(modes: libc::c_uint, offset: i64, uncertainty: i64) -> libc::timex {
    // SAFETY: a timex is integers only, for which zero is a value.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = modes
        | libc::ADJ_NANO
        | libc::ADJ_STATUS
        | libc::ADJ_TIMECONST
        | libc::ADJ_OFFSET
        | libc::ADJ_MAXERROR
        | libc::ADJ_ESTERROR;
    let jumped = offset.saturating_abs() > LARGEST_LESSON;
    let rate = if jumped { libc::STA_FREQHOLD } else { 0 };
    request.status = libc::STA_PLL | libc::STA_NANO | rate;
    request.offset = offset;
    request.maxerror = uncertainty / 1000 + 1;
    request.esterror = request.maxerror;
    request
}

fn adjust(request: &mut libc::timex) -> io::Result<()> {
    // SAFETY: the request is live.
    let result = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, request) };
    super::check(result.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{MAX_LOOKS, Offsets, PTP_SYS_OFFSET, Time};

    #[test]
    fn request_has_the_kernels_layout() {
        assert_eq!(size_of::<Time>(), 16);
        assert_eq!(size_of::<Offsets>(), 16 + 16 * (2 * MAX_LOOKS + 1));
        // Direction, size, type and number of asm-generic/ioctl.h.
        let number = (1 << 30) | (size_of::<Offsets>() << 16) | (0x3d << 8) | 5;
        assert_eq!(usize::try_from(PTP_SYS_OFFSET), Ok(number));
    }
}
