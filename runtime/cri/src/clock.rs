//! Times as the interface gives them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A time in nanoseconds since 1970; 0 for what is before.
pub(crate) fn nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Now.
pub(crate) fn now() -> i64 {
    nanos(SystemTime::now())
}
