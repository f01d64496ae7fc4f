//! Finding out that a guest has stopped: its agent is asked again and again whether it lives. Only
//! one question waits for its answer at a time. The answer may come as late as the limit, so that a
//! guest that is only slow is not taken for dead. The time that the guest was not let run does not
//! count. The other watchdog is `insist` in `signal.rs`, over a container that was killed.

use std::time::Duration;

use api::Error;
use machine::Live;
use machine::patience::Patience;

/// Pause between an answer and the next question.
const PAUSE: Duration = Duration::from_secs(2);

/// Longest time that a slow host earns its guest.
const LONGEST: Duration = Duration::from_mins(1);

/// Waits until the guest is lost, and tells why, or until the machine is over.
pub(super) async fn watch(live: Live, least: Duration) -> Option<String> {
    let Live { machine, guest, .. } = live;
    let boot = machine.booted_in();
    let ask = move || {
        let guest = guest.clone();
        async move { guest.check().await }
    };
    tokio::select! {
        reason = lost(ask, machine.patience(), patience(least, boot)) => Some(reason),
        _ = machine.ended() => None,
    }
}

/// How long a guest may be silent: what the operator says, and longer where even its boot took
/// long (a fraction of a second is usual), because its host is emulated or overloaded.
fn patience(least: Duration, boot: Duration) -> Duration {
    (boot * 4).min(LONGEST).max(least)
}

/// Returns when the guest that `ask` asks has not answered for `limit` of the time that it had,
/// with the reason in plain words.
async fn lost<A>(ask: impl Fn() -> A, patience: &Patience, limit: Duration) -> String
where
    A: Future<Output = Result<(), Error>>,
{
    loop {
        tokio::time::sleep(PAUSE).await;
        let spent = patience.limit(limit, ask()).await;
        match &spent.outcome {
            Some(Ok(())) => {}
            Some(Err(error)) => return error.to_string(),
            None => return format!("the guest's agent has not answered for {}", spent.in_words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(6);

    /// Three times as late as may be, and then not any more.
    async fn answer(before: u32) -> Result<(), Error> {
        let late = if before < 3 { LIMIT - Duration::from_millis(1) } else { 2 * LIMIT };
        tokio::time::sleep(late).await;
        Ok(())
    }

    /// The clock is tokio's own, which jumps when nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn guest_that_falls_silent_is_found_within_ten_seconds_of_its_last_answer() {
        let asked = Cell::new(0);
        let begin = tokio::time::Instant::now();
        let ask = || answer(asked.replace(asked.get() + 1));
        let reason = lost(ask, &Patience::with(Vec::new()), LIMIT).await;
        assert!(reason.contains("not answered for 6 s"), "{reason}");
        assert_eq!(asked.get(), 4);
        assert!(begin.elapsed() < 4 * Duration::from_secs(10));
    }

    #[test]
    fn guest_that_hangs_is_told_of_within_ten_seconds() {
        let here = std::path::Path::new("/opt/cuddy");
        let config = host::Config::new(host::config::RawConfig::default(), here, here).unwrap();
        // It hangs right after its answer, has no last word, and the VMM does not end by itself.
        let told = PAUSE + config.guest_timeout + 2 * super::super::last_word::LAST_WORD;
        assert!(told <= Duration::from_secs(9), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn broken_connection_is_told_as_such() {
        let broken = || async { Err(Error::Failed("broken pipe".into())) };
        let reason = lost(broken, &Patience::with(Vec::new()), LIMIT).await;
        assert_eq!(reason, "broken pipe");
    }

    #[test]
    fn slow_host_earns_its_guest_patience() {
        let boot = |millis| patience(LIMIT, Duration::from_millis(millis));
        assert_eq!(boot(300), LIMIT);
        assert_eq!(boot(5000), Duration::from_secs(20));
        assert_eq!(boot(600_000), LONGEST);
        assert_eq!(patience(2 * LONGEST, LONGEST), 2 * LONGEST);
    }
}
