//! Notes of builds that failed, and of templates that did not work. As long as one is fresh nobody
//! tries again by himself: each pod's start would pay for it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Store;
use crate::Key;

/// How long a failure counts.
const FRESH: Duration = Duration::from_mins(5);

/// End of a note's name.
pub(super) const END: &str = ".failed";

/// Why there is no template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In one line.
    pub reason: String,
    /// When, in seconds since the Unix epoch.
    pub at_unix_s: u64,
}

impl Failure {
    /// Whether it is so recent at `now`, in seconds since the epoch, that another attempt would
    /// most likely fail as well. A clock that was set back does not make it last.
    fn is_fresh(&self, now: u64) -> bool {
        now.checked_sub(self.at_unix_s).is_some_and(|age| age < FRESH.as_secs())
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Store {
    fn note(&self, key: &Key) -> PathBuf {
        self.0.join(format!("{key}{END}"))
    }

    /// Why the last attempt at a template failed, if that was lately.
    pub fn failed_lately(&self, key: &Key) -> Option<Failure> {
        let text = std::fs::read(self.note(key)).ok()?;
        let failure: Failure = serde_json::from_slice(&text).ok()?;
        failure.is_fresh(now()).then_some(failure)
    }

    /// Notes why an attempt has failed.
    pub fn note_failure(&self, key: &Key, reason: &str) {
        let failure = Failure { reason: reason.to_owned(), at_unix_s: now() };
        let path = self.note(key);
        let written = serde_json::to_vec(&failure).map_err(Into::into);
        if let Err(error) = written.and_then(|text| std::fs::write(&path, text)) {
            log::warn!("writing {}: {error}", path.display());
        }
    }

    /// Forgets failures: the next attempt shall be made at once.
    pub fn forget_failure(&self, key: &Key) {
        // There need not be one.
        let _none = std::fs::remove_file(self.note(key));
    }

    /// Removes notes that do not count any more.
    pub(super) fn forget_old_failures(&self) {
        for name in self.names().unwrap_or_default() {
            let Some(Ok(key)) = name.strip_suffix(END).map(str::parse::<Key>) else { continue };
            if self.failed_lately(&key).is_none() {
                self.forget_failure(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_counts_for_five_minutes() {
        let failure = Failure { reason: String::new(), at_unix_s: 1000 };
        assert!(failure.is_fresh(1000) && failure.is_fresh(1299));
        assert!(!failure.is_fresh(1300), "it is old");
        assert!(!failure.is_fresh(999), "the clock was set back");
    }
}
