//! Who waits for a pod's start, and what their leaving means. A caller whose time is over comes again
//! for the same pod, so it is finished. When the last one hangs up before, nobody wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tonic::metadata::MetadataMap;

use crate::fault::Fault;

/// How long before a caller's deadline its leaving may be for that deadline's sake.
const CLOSE: Duration = Duration::from_millis(500);

/// Most digits of a timeout (gRPC over HTTP/2, "Timeout").
const DIGITS: usize = 8;

/// When a call must be answered, by its `grpc-timeout`; none: whenever it is.
pub(crate) fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    Instant::now().checked_add(timeout(text)?)
}

/// Reads a timeout (pure).
fn timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let digits = number.len() <= DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// How many callers want something, and whether nobody does any more; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Interest {
    callers: Arc<AtomicUsize>,
    unwanted: Arc<watch::Sender<bool>>,
}

impl Interest {
    /// Nobody's yet.
    pub(crate) fn new() -> Self {
        Self { callers: Arc::default(), unwanted: Arc::new(watch::channel(false).0) }
    }

    /// One more caller, until this is dropped. None if it is unwanted already.
    pub(crate) fn hold(&self, deadline: Option<Instant>) -> Option<Caller> {
        self.callers.fetch_add(1, Ordering::SeqCst);
        let caller = Caller { interest: self.clone(), deadline };
        // Not borrowed while the caller is dropped, which may change it.
        let unwanted = *self.unwanted.borrow();
        (!unwanted).then_some(caller)
    }

    /// Fails if nobody wants it any more.
    ///
    /// # Errors
    /// [`Fault::Cancelled`].
    pub(crate) fn check(&self) -> Result<(), Fault> {
        match *self.unwanted.borrow() {
            true => Err(Fault::Cancelled("who asked has hung up".into())),
            false => Ok(()),
        }
    }

    /// Waits until nobody wants it.
    pub(crate) async fn gone(&self) {
        let mut unwanted = self.unwanted.subscribe();
        // The sender lives as long as this does.
        let _ = unwanted.wait_for(|unwanted| *unwanted).await;
    }
}

/// A caller who waits.
#[derive(Debug)]
pub(crate) struct Caller {
    interest: Interest,
    deadline: Option<Instant>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        let last = self.interest.callers.fetch_sub(1, Ordering::SeqCst) == 1;
        let in_time = self.deadline.is_none_or(|deadline| Instant::now() + CLOSE < deadline);
        if last && in_time {
            self.interest.unwanted.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, seconds) in [("2H", 7200), ("3M", 180), ("5S", 5), ("2000m", 2)] {
            assert_eq!(timeout(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(timeout("7u"), Some(Duration::from_micros(7)));
        assert_eq!(timeout("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "5", "S", "-1S", "123456789S", "1ä"] {
            assert_eq!(timeout(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn last_caller_who_hangs_up_ends_it() {
        let interest = Interest::new();
        let (one, two) = (interest.hold(None).unwrap(), interest.hold(None).unwrap());
        drop(one);
        interest.check().unwrap();
        drop(two);
        assert!(matches!(interest.check(), Err(Fault::Cancelled(_))));
        assert!(interest.hold(None).is_none());
    }

    #[test]
    fn caller_whose_time_is_over_wants_it_still() {
        let interest = Interest::new();
        drop(interest.hold(Some(Instant::now())));
        interest.check().unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        drop(interest.hold(Some(soon)));
        interest.check().unwrap_err();
    }
}
