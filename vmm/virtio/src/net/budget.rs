//! How often a driver may change the host's tap.

use std::io;
use std::time::{Duration, Instant};

/// Most changes in [`WINDOW`]. The attack: each takes a lock under which the host changes any of
/// its networks, and waits there; a driver that asks without end stops them all. Linux changes
/// a few things when it starts, and then when an administrator says so.
const CHANGES: u32 = 32;

/// Time after which they are forgotten.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts a driver's changes.
#[derive(Debug)]
pub(super) struct Budget {
    since: Instant,
    used: u32,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), used: 0 }
    }

    /// Allows one more change.
    ///
    /// # Errors
    /// If there were too many.
    pub(super) fn spend(&mut self) -> io::Result<()> {
        if self.since.elapsed() > WINDOW {
            *self = Self::new();
        }
        self.used += 1;
        if self.used > CHANGES {
            self.used = CHANGES;
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "changed too often"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_few_and_forgotten() {
        let mut budget = Budget::new();
        assert!((0..CHANGES).all(|_| budget.spend().is_ok()));
        assert!(budget.spend().is_err());
        budget.since = Instant::now().checked_sub(2 * WINDOW).unwrap();
        assert!(budget.spend().is_ok());
    }
}
