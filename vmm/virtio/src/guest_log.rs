//! Log lines that a guest can cause, limited in rate so that it can't fill the host's disk.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lines that one place in the code may log in [`WINDOW_SECONDS`]. The attack: a guest repeats
/// a mistake in a loop until the host's log has filled its disk.
const LINES_PER_WINDOW: u64 = 8;

/// Length of the window in which lines are counted.
const WINDOW_SECONDS: u64 = 30;

/// Counts the lines of one place in the code.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// Number of the window in the upper 32 bits, lines logged in it in the lower ones.
    state: AtomicU64,
}

impl RateLimit {
    /// A limit of which nothing is used yet.
    pub(crate) const fn new() -> Self {
        Self { state: AtomicU64::new(0) }
    }

    /// Whether one more line may be logged now.
    pub(crate) fn permits(&self) -> bool {
        static START: OnceLock<Instant> = OnceLock::new();
        self.permits_at(START.get_or_init(Instant::now).elapsed().as_secs())
    }

    fn permits_at(&self, seconds: u64) -> bool {
        let window = seconds / WINDOW_SECONDS;
        let claimed = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let lines = if state >> 32 == window { state & 0xffff_ffff } else { 0 };
            (lines < LINES_PER_WINDOW).then_some(window << 32 | (lines + 1))
        });
        claimed.is_ok()
    }
}

/// Targets of the libraries that log what the guest did wrong each time it does so.
const TALKATIVE: [&str; 2] = ["virtio_queue", "virtiofsd"];

/// Whether a logger may write `record`: always, unless it comes from a library that logs every
/// mistake of the guest, in which case only a few times in half a minute.
///
/// A process that serves guests must ask this before it writes anything, and should cut long
/// lines: such a library puts guest strings of up to a megabyte into them.
pub fn log_permits(record: &log::Metadata<'_>) -> bool {
    static LIMIT: RateLimit = RateLimit::new();
    let crate_name = record.target().split("::").next().unwrap_or_default();
    !TALKATIVE.contains(&crate_name) || LIMIT.permits()
}

/// Logs a warning if `limit` permits.
pub(crate) fn warn(limit: &RateLimit, arguments: std::fmt::Arguments<'_>) {
    if limit.permits() {
        log::warn!(target: "guest", "{arguments}");
    }
}

/// Logs a warning about something that the guest did, at most a few times in half a minute for
/// each place in the code that does so.
macro_rules! guest_warn {
    ($($argument:tt)+) => {{
        static LIMIT: $crate::guest_log::RateLimit = $crate::guest_log::RateLimit::new();
        $crate::guest_log::warn(&LIMIT, format_args!($($argument)+))
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn talkative_libraries_are_limited() {
        let from = |target| {
            let metadata = log::Metadata::builder().target(target).build();
            (0..100).filter(|_| log_permits(&metadata)).count()
        };
        assert_eq!(from("vmm::control"), 100);
        assert!(from("virtio_queue::queue") + from("virtiofsd::server") < 100);
    }

    #[test]
    fn a_window_has_a_fixed_number_of_lines() {
        let limit = RateLimit::new();
        let now = (0..100).filter(|_| limit.permits_at(5)).count() as u64;
        assert_eq!(now, LINES_PER_WINDOW);
        let next = (0..100).filter(|_| limit.permits_at(5 + WINDOW_SECONDS)).count() as u64;
        assert_eq!(next, LINES_PER_WINDOW);
    }
}
