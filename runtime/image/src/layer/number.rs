//! Numbers of headers: digits in octal, or base 256 with a sign, as GNU tar and Go have them.

/// Whether a field holds base 256.
pub(super) fn is_binary(field: &[u8]) -> bool {
    field.first().is_some_and(|first| first & 0x80 != 0)
}

/// A field in base 256: two's complement of all bits but the first. None: 64 bits can't hold it.
pub(super) fn binary(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    let negative = first & 0x40 != 0;
    let start = i128::from(first & 0x7f) - if negative { 0x80 } else { 0 };
    // Fields have at most 12 bytes.
    let value = rest.iter().fold(start, |value, byte| (value << 8) | i128::from(*byte));
    i64::try_from(value).ok()
}

/// A decimal number of a PAX record. None: it is no number, or too large for a file's size.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(text).ok()?.parse().ok()?;
    (digits && i64::try_from(number).is_ok()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_256_has_a_sign() {
        let of = |value: i128| {
            let mut field = value.to_be_bytes()[4..].to_vec();
            field[0] |= 0x80;
            binary(&field)
        };
        for value in [0, 1, -1, -62_135_596_801, i64::MAX, i64::MIN] {
            assert_eq!(of(value.into()), Some(value));
        }
        assert_eq!(of(i128::from(i64::MAX) + 1), None);
        assert_eq!(of(i128::from(i64::MIN) - 1), None);
        assert_eq!(binary(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), Some(0xffff_ffff));
        assert_eq!(binary(&[0xff; 8]), Some(-1));
    }

    #[test]
    fn decimals_are_digits() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX.unsigned_abs()));
        for text in [&b""[..], b"-1", b"+1", b" 1", b"1\0", b"9223372036854775808", b"\xff"] {
            assert_eq!(decimal(text), None);
        }
    }
}
