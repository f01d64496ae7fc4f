//! Durations as Go's `time.ParseDuration` reads them: `300ms`, `1.5h`, `2m30s`.

use std::time::Duration;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The duration, if it is one, above zero, and of less than 292 years.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split(rest, |letter| letter.is_ascii_digit() || letter == '.');
        let (unit, after) = split(after, |letter| !letter.is_ascii_digit() && letter != '.');
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(scaled(number, *nanoseconds)?)?;
        rest = after;
    }
    (sum > 0 && i64::try_from(sum).is_ok()).then(|| Duration::from_nanos(sum))
}

fn split(text: &str, within: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|letter| !within(letter)).unwrap_or(text.len()))
}

/// A decimal number times the unit. Less than a nanosecond is left out.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut sum = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        let digit = digit.to_digit(10)?;
        // Each digit of its own, so that none is lost to a place that does not divide the unit.
        sum = sum.checked_add(u64::from(digit).checked_mul(place)? / 10)?;
        place /= 10;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("1s", 1_000_000_000),
            ("+300ms", 300_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2m30s", 150_000_000_000),
            ("1h0.5s", 3_600_500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1.25µs", 1_250),
            ("1.000000000123s", 1_000_000_000),
            ("2us1ns", 2_001),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in ["", "0", "0s", "3", "s", ".s", "-1s", "1 s", "1d", "1..5s", "1s ", "9999999h"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("{}s", "9".repeat(100))), None);
    }
}
