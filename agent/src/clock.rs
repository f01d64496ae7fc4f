//! The guest's wall clock follows the host's. The machine has no clock of its own that goes on
//! while its host sleeps, and the host's own is corrected all the time (NTP). The host's kernel
//! shows its clock as a PTP clock (kernel's drivers/ptp/ptp_kvm_common.c); nobody has to send it.
//!
//! A look each ten seconds costs an idle guest little. The kernel's own loop learns from the looks
//! how much faster or slower the host's clock runs, so the two stay together in between.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_settime};

use crate::sys::clock::{self, Look};

const NANOSECONDS: i64 = 1_000_000_000;

/// An offset of more than this is stepped over. The kernel's loop takes no larger one either.
const LARGEST_SLEW: i64 = NANOSECONDS / 2;

/// An offset of more than this is looked after more often.
const OFF: i64 = 500_000;

/// Between two looks while the clocks agree. The kernel's loop learns the rate best at 8 s and more.
const RARELY: Duration = Duration::from_secs(10);

/// Between two looks while they do not.
const OFTEN: Duration = Duration::from_secs(2);

const CLASS: &str = "/sys/class/ptp";

/// What the kernel calls the clock of its hypervisor.
const NAME: &str = "KVM virtual PTP";

/// What to do about an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Correction {
    /// Nothing: it may be no more than the time that the look took.
    Keep,
    /// Run faster or slower, in nanoseconds.
    Slew(i64),
    /// Jump, in nanoseconds.
    Step(i64),
}

impl Look {
    /// How far the host's clock is ahead, in nanoseconds.
    fn offset(self) -> i64 {
        self.host.saturating_sub(self.before).saturating_sub(self.uncertainty())
    }

    /// By how much [`Self::offset`] may be wrong either way.
    fn uncertainty(self) -> i64 {
        self.after.saturating_sub(self.before) / 2
    }

    fn correction(self) -> Correction {
        let offset = self.offset();
        match offset.saturating_abs() {
            large if large > LARGEST_SLEW => Correction::Step(offset),
            small if small <= self.uncertainty() => Correction::Keep,
            _ => Correction::Slew(offset),
        }
    }
}

impl Correction {
    /// When to look again.
    fn pause(self) -> Duration {
        match self {
            Self::Keep => RARELY,
            Self::Slew(offset) if offset.saturating_abs() <= OFF => RARELY,
            Self::Slew(_) | Self::Step(_) => OFTEN,
        }
    }
}

/// Sets the clock to nanoseconds since the Unix epoch.
///
/// # Errors
/// The time is before the epoch, or the kernel refuses.
pub(crate) fn set(unix_ns: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: unix_ns.div_euclid(NANOSECONDS),
        tv_nsec: unix_ns.rem_euclid(NANOSECONDS),
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// Follows the host's clock from now on, for ever. Where the hypervisor does not show it, the clock
/// runs on from where the host has set it.
pub(crate) async fn follow() {
    let device = match find(Path::new(CLASS)) {
        Ok(device) => device,
        Err(error) => {
            log::warn!("the host's clock is not followed: {error}");
            return;
        }
    };
    let (mut first, mut failing) = (true, false);
    loop {
        let done = clock::look(&device).and_then(|look| correct(look, first));
        match &done {
            Err(error) if !failing => log::warn!("follow the host's clock: {error}"),
            Ok(Correction::Step(offset)) if !first => log::info!("clock stepped by {offset} ns"),
            _ => {}
        }
        (first, failing) = (false, done.is_err());
        tokio::time::sleep(done.map_or(RARELY, Correction::pause)).await;
    }
}

/// Does what a look tells to. At the `first` one nobody lives by the clock yet: it may jump.
fn correct(look: Look, first: bool) -> io::Result<Correction> {
    let correction = match look.correction() {
        Correction::Slew(offset) if first => Correction::Step(offset),
        other => other,
    };
    match correction {
        Correction::Keep => {}
        Correction::Slew(offset) => clock::slew(offset, look.uncertainty())?,
        Correction::Step(offset) => clock::step(offset, look.uncertainty())?,
    }
    Ok(correction)
}

/// Opens the hypervisor's clock.
fn find(class: &Path) -> io::Result<File> {
    for entry in std::fs::read_dir(class)? {
        let entry = entry?;
        if std::fs::read_to_string(entry.path().join("clock_name"))?.trim() == NAME {
            return File::open(Path::new("/dev").join(entry.file_name()));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("the kernel has no clock {NAME:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// A look that took `took`, in the middle of which the host was `ahead`.
    fn look(ahead: i64, took: i64) -> Look {
        let before = 1_800_000_000 * NANOSECONDS;
        Look { before, host: before + took / 2 + ahead, after: before + took }
    }

    #[test]
    fn large_offsets_are_stepped_over_and_small_ones_slewed() {
        for ahead in [3600 * NANOSECONDS, -3600 * NANOSECONDS, 501 * MS, -501 * MS] {
            assert_eq!(look(ahead, 2000).correction(), Correction::Step(ahead));
        }
        for ahead in [500 * MS, -500 * MS, MS, -MS, 2000] {
            assert_eq!(look(ahead, 2000).correction(), Correction::Slew(ahead));
        }
    }

    #[test]
    fn an_offset_within_the_look_says_nothing() {
        // The guest stood still between its two looks at its own clock.
        for ahead in [0, 900, -900] {
            assert_eq!(look(ahead, 2000).correction(), Correction::Keep);
        }
        assert_eq!(look(-40 * MS, 100 * MS).correction(), Correction::Keep);
        // A jump of an hour is one all the same.
        let hour = 3600 * NANOSECONDS;
        assert_eq!(look(hour, 100 * MS).correction(), Correction::Step(hour));
    }

    #[test]
    fn clocks_that_agree_are_looked_at_rarely() {
        assert_eq!(look(0, 2000).correction().pause(), RARELY);
        assert_eq!(look(100_000, 2000).correction().pause(), RARELY);
        assert_eq!(look(MS, 2000).correction().pause(), OFTEN);
        assert_eq!(look(NANOSECONDS, 2000).correction().pause(), OFTEN);
    }

    #[test]
    fn nonsense_is_no_overflow() {
        let far = Look { before: i64::MIN, host: i64::MAX, after: i64::MAX };
        assert!(matches!(far.correction(), Correction::Step(_)));
        let back = Look { before: i64::MAX, host: i64::MIN, after: i64::MIN };
        assert!(matches!(back.correction(), Correction::Step(_)));
    }

    #[test]
    fn another_clock_is_not_the_hosts() {
        let class = tempfile::tempdir().unwrap();
        std::fs::create_dir(class.path().join("ptp0")).unwrap();
        std::fs::write(class.path().join("ptp0/clock_name"), "ptp_vmw\n").unwrap();
        let error = find(class.path()).unwrap_err().to_string();
        assert!(error.contains("KVM virtual PTP"), "{error}");
    }
}
