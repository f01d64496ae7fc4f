//! Limits by the time that a machine had. On a busy host a machine may wait for a CPU far longer
//! than it runs. A limit by the clock would take a starved guest for a dead one. So the time does
//! not count in which its threads, or those of this process, stood in line for a CPU. A guest that
//! hangs while nobody stands in line, or that spins, is found as soon as ever.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// Pause between two looks at what the machine had.
const TICK: Duration = Duration::from_secs(1);

/// Shortest such pause.
const LEAST: Duration = Duration::from_millis(10);

/// How long each thread has stood in line for a CPU, in nanoseconds.
type Waits = BTreeMap<u64, u64>;

/// How long whom is waited for.
#[derive(Clone)]
pub struct Patience(Arc<dyn Fn() -> Waits + Send + Sync>);

impl std::fmt::Debug for Patience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Patience")
    }
}

/// What came of work with a limit.
#[derive(Debug)]
pub struct Spent<T> {
    /// What it came to; none if it took too long.
    pub outcome: Option<T>,
    /// How long it took, of the time that counts.
    pub counted: Duration,
    /// How long it took by the clock.
    pub elapsed: Duration,
}

impl<T> Spent<T> {
    /// The time in words, and why the clock says otherwise if it does.
    pub fn in_words(&self) -> String {
        let (counted, elapsed) = (self.counted.as_secs(), self.elapsed.as_secs());
        match elapsed.saturating_sub(counted) {
            0 | 1 => format!("{counted} s"),
            waited => format!(
                "{counted} s of its own ({elapsed} s by the clock: for {waited} s other processes \
                 had the host's CPUs)"
            ),
        }
    }
}

impl Patience {
    /// With these processes, of which one waits for another.
    pub fn with(processes: Vec<u32>) -> Self {
        Self(Arc::new(move || waits(&processes)))
    }

    /// Does `work`, but no longer than `limit` of the time that counts.
    pub async fn limit<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Spent<T> {
        let mut work = pin!(work);
        let begin = Instant::now();
        let mut counted = Duration::ZERO;
        let mut before = None;
        loop {
            let tick = TICK.min(limit.saturating_sub(counted)).max(LEAST);
            let since = Instant::now();
            let outcome = timeout(tick, work.as_mut()).await.ok();
            let passed = since.elapsed();
            if outcome.is_some() {
                let counted = counted + passed.min(tick);
                return Spent { outcome, counted, elapsed: begin.elapsed() };
            }
            let after = (self.0)();
            let waited = before.replace(after.clone()).map(|before| longest(&before, &after));
            // A longer pause than was asked for: this process, or its host, stood still.
            counted += passed.saturating_sub(waited.unwrap_or_default()).min(tick);
            if counted >= limit {
                return Spent { outcome: None, counted, elapsed: begin.elapsed() };
            }
        }
    }
}

/// The longest that one thread has waited between two looks.
fn longest(before: &Waits, after: &Waits) -> Duration {
    let waited = after.iter().filter_map(|(thread, now)| now.checked_sub(*before.get(thread)?));
    Duration::from_nanos(waited.max().unwrap_or(0))
}

/// The second number of `schedstat` (kernel's `scheduler/sched-stats`) of each thread of the
/// processes. A kernel without it leaves the clock.
fn waits(processes: &[u32]) -> Waits {
    let mut waits = Waits::new();
    for process in processes {
        let tasks = format!("/proc/{process}/task");
        let Ok(threads) = std::fs::read_dir(Path::new(&tasks)) else { continue };
        for thread in threads.filter_map(Result::ok) {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let waited = text.split_whitespace().nth(1).and_then(|waited| waited.parse().ok());
            let id = thread.file_name().to_string_lossy().parse();
            if let (Ok(id), Some(waited)) = (id, waited) {
                waits.insert(id, waited);
            }
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patience with a machine that waits for a CPU for so many hundredths of all time.
    fn starved(percent: u32) -> Patience {
        let begin = Instant::now();
        let waited = move || u64::try_from((begin.elapsed() * percent / 100).as_nanos()).unwrap();
        Patience(Arc::new(move || Waits::from([(7, waited()), (8, 5)])))
    }

    /// The clock is tokio's own, which jumps when nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn time_in_line_for_a_cpu_does_not_count() {
        let limit = Duration::from_secs(6);
        let free = starved(0).limit(limit, std::future::pending::<()>()).await;
        assert_eq!((free.outcome, free.elapsed.as_secs()), (None, 6));
        let starved_one = starved(99).limit(limit, std::future::pending::<()>()).await;
        assert!(starved_one.elapsed > Duration::from_secs(400), "{starved_one:?}");
        let words = starved_one.in_words();
        assert!(starved_one.elapsed < Duration::from_secs(700), "{starved_one:?}");
        assert!(
            words.starts_with("6 s of its own (") && words.contains("other processes"),
            "{words}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_a_starved_machine_does_in_time_is_done() {
        let work = tokio::time::sleep(Duration::from_secs(120));
        let done = starved(95).limit(Duration::from_secs(10), work).await;
        assert!(done.outcome.is_some() && done.counted < Duration::from_secs(8), "{done:?}");
        let work = tokio::time::sleep(Duration::from_secs(120));
        assert!(starved(10).limit(Duration::from_secs(10), work).await.outcome.is_none());
    }

    #[test]
    fn kernel_tells_of_every_thread() {
        let own = waits(&[std::process::id(), u32::MAX]);
        let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
        assert!(!own.is_empty() && own.len() <= threads, "{own:?}");
    }
}
