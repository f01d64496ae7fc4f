//! Repeated measurements of one thing.

use std::time::Duration;

use anyhow::Result;

/// Durations of the measured runs, at least one.
#[derive(Debug, Clone)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Runs `measure` once to warm up and `runs` times for the record.
    pub(crate) fn take(runs: u32, mut measure: impl FnMut() -> Result<Duration>) -> Result<Self> {
        measure()?;
        let durations: Result<Vec<_>> = (0..runs.max(1)).map(|_| measure()).collect();
        let mut durations = durations?;
        durations.sort_unstable();
        Ok(Self(durations))
    }

    /// The middle of the sorted durations.
    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// The shortest and the longest.
    pub(crate) fn range(&self) -> (Duration, Duration) {
        (self.0[0], self.0[self.0.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_not_counted() {
        let mut next = [90, 3, 1, 2].map(Duration::from_millis).into_iter();
        let samples = Samples::take(3, || Ok(next.next().unwrap())).unwrap();
        assert_eq!(samples.median(), Duration::from_millis(2));
        assert_eq!(samples.range(), (Duration::from_millis(1), Duration::from_millis(3)));
    }
}
