//! The guest's wall clock, which the host sets: a machine has no clock of its own.

use std::io;

use rustix::time::{ClockId, Timespec, clock_settime};

const NANOSECONDS: i64 = 1_000_000_000;

/// Sets the clock to nanoseconds since the Unix epoch.
///
/// # Errors
/// The time is before the epoch, or the kernel refuses.
pub(crate) fn step(unix_ns: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: unix_ns.div_euclid(NANOSECONDS),
        tv_nsec: unix_ns.rem_euclid(NANOSECONDS),
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}
