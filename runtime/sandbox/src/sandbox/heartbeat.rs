//! Finding out that a guest has stopped: its agent is asked again and again whether it lives.
//! One question waits for its answer at a time, however late it comes within the limit, so that a
//! guest that is only slow is not taken for dead.

use std::time::{Duration, Instant};

use crate::guest::Guest;

/// Pause between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(2000);

/// A wait that took so much longer than it was to take says nothing of the guest: this process,
/// or its host, stood still itself.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Returns when the guest has not answered for `limit`, with the reason in plain words.
pub(super) async fn lost(guest: &Guest, limit: Duration) -> String {
    loop {
        tokio::time::sleep(PAUSE).await;
        let asked = Instant::now();
        match tokio::time::timeout(limit, guest.check()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) if asked.elapsed() > limit + STANDSTILL => {
                log::warn!("this process stood still for {} s", asked.elapsed().as_secs());
            }
            Err(_) => {
                return format!("the guest's agent has not answered for {} s", limit.as_secs());
            }
        }
    }
}
