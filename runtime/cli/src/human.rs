//! Sizes, ages, states and numbers of CPUs as people write and read them (pure).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::cri::ContainerState;

/// Units of sizes, each 1024 times the one before.
const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// A container's state as `--json` has it.
pub(crate) fn state_word(state: ContainerState) -> &'static str {
    match state {
        ContainerState::ContainerCreated => "created",
        ContainerState::ContainerRunning => "running",
        ContainerState::ContainerExited => "exited",
        ContainerState::ContainerUnknown => "unknown",
    }
}

/// Bytes with three digits at least, as `1.44MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut whole = bytes;
    // In thousandths of the unit.
    let mut exact = u128::from(bytes) * 1000;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        whole /= 1024;
        exact /= 1024;
        unit += 1;
    }
    let (whole, part) = (exact / 1000, exact % 1000);
    match (unit, whole) {
        (0, _) => format!("{bytes}B"),
        (_, 0..10) => format!("{whole}.{:02}{}", part / 10, UNITS[unit]),
        (_, 10..100) => format!("{whole}.{}{}", part / 100, UNITS[unit]),
        _ => format!("{whole}{}", UNITS[unit]),
    }
}

/// Reads a size: a number, with `k`, `m`, `g` or `t` behind it for powers of 1024, and `b` or `ib`
/// behind that.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let wrong = || format!("{text:?} is no size such as 512m or 2g");
    let power = match &lower[digits.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let unit = 1024_i64.pow(power);
    let number = decimal(digits).ok_or_else(wrong)?;
    let bytes = i128::from(number) * i128::from(unit) / i128::from(SCALE);
    i64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// Parts that a decimal number is counted in.
const SCALE: i64 = 1_000_000;

/// Reads a decimal number, in millionths.
fn decimal(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part: i64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(SCALE)?.checked_add(part)
}

/// Microseconds of the period in which CPU time is limited.
pub(crate) const PERIOD: i64 = 100_000;

/// Reads a number of CPUs; the microseconds of them in a [`PERIOD`].
///
/// # Errors
/// A sentence for the user.
pub(crate) fn cpus(text: &str) -> Result<i64, String> {
    let quota = decimal(text).and_then(|number| number.checked_mul(PERIOD / 1000));
    let quota = quota.map(|thousandths| thousandths / (SCALE / 1000));
    // The kernel takes no less than a millisecond.
    quota
        .filter(|quota| *quota >= 1000)
        .ok_or_else(|| format!("{text:?} is no number of CPUs such as 0.5 or 2"))
}

/// How long something took, in its greatest unit, as `5 minutes`.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        172_800..1_209_600 => (seconds / 86_400, "day"),
        _ => (seconds / 604_800, "week"),
    };
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{end}")
}

/// How long ago `nanoseconds` since 1970 were, at `now`. What is yet to come is now.
pub(crate) fn since(nanoseconds: i64, now: SystemTime) -> Duration {
    let at = UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default());
    now.duration_since(at).unwrap_or_default()
}

/// How long it is from `now` until `nanoseconds` since 1970. What is past is now.
pub(crate) fn until(nanoseconds: i64, now: SystemTime) -> Duration {
    let at = UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default());
    at.duration_since(now).unwrap_or_default()
}

/// The first twelve digits of an id, without the name of its digest.
pub(crate) fn short(id: &str) -> String {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [(0, "0B"), (1023, "1023B"), (1024, "1.00KiB"), (1536, "1.50KiB")];
        let more = [(10 << 20, "10.0MiB"), (999 << 20, "999MiB"), (5 << 40, "5.00TiB")];
        for (bytes, text) in cases.into_iter().chain(more) {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "16383PiB");
    }

    #[test]
    fn sizes_are_read_with_units() {
        for (text, expected) in [("1", 1), ("64k", 65536), ("1.5M", 3 << 19), ("2GiB", 2 << 30)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "0", "-1", "1.5.2", "1x", "1e3", "99999999999999g", "ä"] {
            assert!(bytes(text).unwrap_err().contains("no size"), "{text}");
        }
    }

    #[test]
    fn cpus_are_read_with_fractions() {
        for (text, expected) in [("1", 100_000), ("0.5", 50_000), ("2.25", 225_000), ("0.01", 1000)]
        {
            assert_eq!(cpus(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "0.001", "-1", "x", "1,5"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_in_their_greatest_unit() {
        let cases = [(0, "0 seconds"), (1, "1 second"), (61, "1 minute"), (7200, "2 hours")];
        for (seconds, text) in
            cases.into_iter().chain([(200_000, "2 days"), (1_300_000, "2 weeks")])
        {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
        let now = UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(since(2_000_000_000, now), Duration::from_secs(3));
        assert_eq!(since(9_000_000_000, now), Duration::ZERO);
        assert_eq!(until(9_000_000_000, now), Duration::from_secs(4));
        assert_eq!(until(2_000_000_000, now), Duration::ZERO);
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
    }
}
