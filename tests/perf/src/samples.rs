//! Repeated measurements of one thing.

use anyhow::Result;
use serde::Serialize;

/// Numbers in the order of their size, at least one.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Runs `measure` once to warm up and `runs` times for the record.
    pub(crate) fn take(runs: u32, mut measure: impl FnMut() -> Result<f64>) -> Result<Self> {
        measure()?;
        let numbers: Result<Vec<_>> = (0..runs.max(1)).map(|_| measure()).collect();
        Ok(Self::from(numbers?))
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or_default()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or_default()
    }
}

impl From<Vec<f64>> for Samples {
    fn from(mut numbers: Vec<f64>) -> Self {
        numbers.sort_unstable_by(f64::total_cmp);
        Self(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_not_counted() {
        let mut next = [90.0, 3.0, 1.0, 2.0].into_iter();
        let samples = Samples::take(3, || Ok(next.next().unwrap())).unwrap();
        assert_eq!([samples.least(), samples.median(), samples.most()], [1.0, 2.0, 3.0]);
    }
}
