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

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or_default()
    }

    /// The middle one, or what is between the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let at = |index: usize| self.0.get(index).copied().unwrap_or_default();
        let (len, half) = (self.0.len(), self.0.len() / 2);
        if len % 2 == 0 { f64::midpoint(at(half.saturating_sub(1)), at(half)) } else { at(half) }
    }

    /// The least number that at least `percent` of a hundred numbers do not exceed: of fewer than a
    /// hundred numbers, the 99th is the most.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
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

/// How often to measure, from 1 to 99: an odd number, so that the median is one of the measured.
pub(crate) fn odd(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..100).contains(number) && number % 2 == 1);
    number.ok_or_else(|| "not an odd number from 1 to 99: the median would be none of them".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_counts_are_refused() {
        assert_eq!(odd("3"), Ok(3));
        assert!(["0", "2", "101", "x"].iter().all(|text| odd(text).is_err()));
    }

    #[test]
    fn median_of_an_even_number_is_between() {
        assert_eq!(Samples::from(vec![1.0, 2.0, 4.0, 9.0]).median(), 3.0);
        assert_eq!(Samples::from(Vec::new()).median(), 0.0);
    }

    #[test]
    fn percentiles_are_of_the_measured() {
        let hundred = Samples::from((1..=100).map(f64::from).collect::<Vec<_>>());
        assert_eq!([50, 99, 100].map(|percent| hundred.percentile(percent)), [50.0, 99.0, 100.0]);
        let few = Samples::from(vec![3.0, 1.0, 2.0]);
        assert_eq!([50, 99].map(|percent| few.percentile(percent)), [2.0, 3.0]);
        assert_eq!(Samples::from(Vec::new()).percentile(99), 0.0);
    }

    #[test]
    fn warm_up_is_not_counted() {
        let mut next = [90.0, 3.0, 1.0, 2.0].into_iter();
        let samples = Samples::take(3, || Ok(next.next().unwrap())).unwrap();
        assert_eq!([samples.least(), samples.median(), samples.most()], [1.0, 2.0, 3.0]);
    }
}
