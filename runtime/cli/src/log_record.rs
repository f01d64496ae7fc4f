//! Records of a container's log, read back (pure). The format is the interface's:
//!
//! ```text
//!  2026-11-30T07:00:11.123456789Z stdout F a whole line, or the last part of one
//!  2026-11-30T07:00:11.123456789Z stderr P a part of a line: too long, or without an end
//! ```

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// When it was written, in the words of RFC 3339.
    pub(crate) time: &'a [u8],
    /// Whether it is of standard error.
    pub(crate) is_error: bool,
    /// Whether a line ends with it.
    pub(crate) is_end: bool,
    /// The text.
    pub(crate) text: &'a [u8],
}

/// Reads a record from a line without its end; none if it is no record.
pub(crate) fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = fields.next().filter(|time| !time.is_empty())?;
    let is_error = match fields.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    // More tags may follow one day, with colons between them.
    let is_end = match fields.next()?.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Record { time, is_error, is_end, text: fields.next()? })
}

/// Takes whole lines from the front of `kept`; what has no end yet stays there.
pub(crate) fn lines(kept: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let Some(last) = kept.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let rest = kept.split_off(last + 1);
    let whole = std::mem::replace(kept, rest);
    let lines = whole[..last].split(|byte| *byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}

/// The lines from the one on where the last `count` whole lines of output begin.
pub(crate) fn tail(lines: &[Vec<u8>], count: usize) -> &[Vec<u8>] {
    let ends = |line: &[u8]| parse(line).is_some_and(|record| record.is_end);
    // Each line of output begins where one before has ended, of whichever stream.
    let mut ended = 0;
    let open = lines.last().is_some_and(|line| !ends(line));
    let count = if open { count.saturating_sub(1) } else { count };
    if count == 0 && !open {
        return &[];
    }
    for (at, line) in lines.iter().enumerate().rev() {
        if ends(line) {
            if ended == count {
                return &lines[at + 1..];
            }
            ended += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_read_as_it_was_written() {
        let record = parse(b"2026-11-30T07:00:11Z stderr F two words").unwrap();
        let expected = Record {
            time: b"2026-11-30T07:00:11Z",
            is_error: true,
            is_end: true,
            text: b"two words",
        };
        assert_eq!(record, expected);
        let part = parse(b"t stdout P:x ").unwrap();
        assert_eq!((part.is_error, part.is_end, part.text), (false, false, &b""[..]));
        for wrong in [&b""[..], b"t", b"t stdout", b"t stdout F", b"t other F x", b"t stdout X x"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn line_waits_for_its_end() {
        let mut kept = b"one\ntwo\nthr".to_vec();
        assert_eq!(lines(&mut kept), [b"one".to_vec(), b"two".to_vec()]);
        assert!(lines(&mut kept).is_empty());
        kept.extend(b"ee\n");
        assert_eq!(lines(&mut kept), [b"three".to_vec()]);
        assert!(kept.is_empty());
    }

    #[test]
    fn tail_counts_lines_of_output() {
        let all = ["t stdout F 1", "t stdout P 2a", "t stdout F 2b", "t stderr F 3"];
        let all = all.map(|line| line.as_bytes().to_vec());
        let of = |count| tail(&all, count).len();
        assert_eq!([of(0), of(1), of(2), of(3), of(9)], [0, 1, 3, 4, 4]);
        let open = [&all[..], &[b"t stdout P x".to_vec()]].concat();
        assert_eq!((tail(&open, 1).len(), tail(&open, 2).len()), (1, 2));
    }
}
