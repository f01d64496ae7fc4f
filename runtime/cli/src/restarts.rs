//! What the daemon tells of a container that it starts again (pure).

use std::time::SystemTime;

use serde_json::Value;

use crate::human::{age, until};

/// How often a container was started again, and when it will be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Restarts {
    /// How often it was.
    pub(crate) count: u64,
    /// When it is to be, in nanoseconds since 1970; none: it runs, or stays as it is.
    pub(crate) at: Option<i64>,
}

impl Restarts {
    /// What the verbose status of a container tells; nothing if another daemon told it.
    pub(crate) fn read(info: &Value) -> Self {
        let count = info["restarts"].as_u64().unwrap_or_default();
        Self { count, at: info["restartAt"].as_i64() }
    }

    /// What is said of one that runs, behind since when it does.
    pub(crate) fn past(self) -> String {
        match self.count {
            0 => String::new(),
            1 => ", restarted once".to_owned(),
            count => format!(", restarted {count} times"),
        }
    }

    /// What is said of one that ended with `code` and is to run again; none of others.
    pub(crate) fn coming(self, code: i32, now: SystemTime) -> Option<String> {
        let wait = age(until(self.at?, now));
        Some(format!("Restarting ({code}) in {wait}{}", self.past()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;

    #[test]
    fn restarts_are_told_as_they_were_and_will_be() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let read = |info: Value| Restarts::read(&info);
        let waits = read(json!({ "restarts": 2, "restartAt": 105_000_000_000_i64 }));
        let words = "Restarting (3) in 5 seconds, restarted 2 times";
        assert_eq!(waits.coming(3, now).as_deref(), Some(words));
        let runs = read(json!({ "restarts": 1, "restartAt": null }));
        assert_eq!((runs.coming(3, now), &*runs.past()), (None, ", restarted once"));
        assert_eq!(read(Value::Null), Restarts::default());
        assert_eq!(Restarts::default().past(), "");
    }
}
