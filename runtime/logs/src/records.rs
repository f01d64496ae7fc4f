//! Records of a container's log as kubelet reads it (pure). The format is CRI's: kubelet's
//! `pkg/kubelet/kuberuntime/logs` reads it, and containerd's `internal/cri/io/logger.go` writes it.
//!
//! ```text
//!  2026-11-30T07:00:11.123456789Z stdout F a whole line, or the last part of one
//!  2026-11-30T07:00:11.123456789Z stderr P a part of a line: too long, or without an end
//! ```

use std::time::SystemTime;

/// Longest text of a record where nothing else is asked for, in bytes; containerd's default.
pub const LONGEST: usize = 16 << 10;

/// One of a process's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and the terminal if there is one.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts one output into records. It keeps what has no end of line yet, at most one record's text
/// and one piece of output.
#[derive(Debug)]
pub struct Splitter {
    stream: Stream,
    longest: usize,
    pending: Vec<u8>,
}

impl Splitter {
    /// Cuts the output `stream` into records of at most `longest` bytes of text.
    pub fn new(stream: Stream, longest: usize) -> Self {
        Self { stream, longest: longest.max(1), pending: Vec::new() }
    }

    /// Takes a piece of output that came at `now`. Returns the records that it completes.
    pub fn take(&mut self, piece: &[u8], now: SystemTime) -> Vec<u8> {
        let mut records = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(part);
            let ended = self.pending.pop_if(|byte| *byte == b'\n').is_some();
            if ended {
                self.pending.pop_if(|byte| *byte == b'\r');
            }
            self.cut(now, &mut records);
            if ended {
                let text = std::mem::take(&mut self.pending);
                self.write("F", &text, now, &mut records);
            }
        }
        records
    }

    /// The output is over. Returns the record of what had no end of line.
    pub fn end(&mut self, now: SystemTime) -> Vec<u8> {
        let mut records = Vec::new();
        self.cut(now, &mut records);
        let text = std::mem::take(&mut self.pending);
        if !text.is_empty() {
            self.write("P", &text, now, &mut records);
        }
        records
    }

    /// Writes parts of a line that is longer than a record.
    fn cut(&mut self, now: SystemTime, to: &mut Vec<u8>) {
        let mut start = 0;
        // A carriage return may turn out to belong to the end of the line.
        while let rest = &self.pending[start..]
            && rest.len() > self.longest + usize::from(rest.ends_with(b"\r"))
        {
            self.write("P", &rest[..self.longest], now, to);
            start += self.longest;
        }
        self.pending.drain(..start);
    }

    fn write(&self, tag: &str, text: &[u8], now: SystemTime, to: &mut Vec<u8>) {
        let time = humantime::format_rfc3339_nanos(now);
        to.extend_from_slice(format!("{time} {} {tag} ", self.stream.name()).as_bytes());
        to.extend_from_slice(text);
        to.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kubelet would show, and how many records it took.
    fn shown(records: &[u8]) -> (Vec<u8>, usize) {
        let mut text = Vec::new();
        let lines = records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let count = lines
            .map(|line| {
                let mut fields = line.splitn(4, |byte| *byte == b' ');
                assert!(fields.next().unwrap().ends_with(b"Z"));
                assert_eq!(fields.next(), Some(&b"stdout"[..]));
                let whole = fields.next() == Some(b"F");
                text.extend_from_slice(fields.next().unwrap());
                text.extend(whole.then_some(b'\n'));
            })
            .count();
        (text, count)
    }

    /// The records of an output that comes in these pieces.
    fn records(longest: usize, pieces: &[&[u8]]) -> Vec<u8> {
        let mut splitter = Splitter::new(Stream::Stdout, longest);
        let mut records = Vec::new();
        for piece in pieces {
            records.extend(splitter.take(piece, SystemTime::UNIX_EPOCH));
        }
        records.extend(splitter.end(SystemTime::UNIX_EPOCH));
        records
    }

    #[test]
    fn record_is_as_kubelet_reads_it() {
        let mut splitter = Splitter::new(Stream::Stderr, LONGEST);
        let record = splitter.take(b"text\n", SystemTime::UNIX_EPOCH);
        assert_eq!(record, b"1970-01-01T00:00:00.000000000Z stderr F text\n");
        assert_eq!(splitter.end(SystemTime::UNIX_EPOCH), b"");
    }

    #[test]
    fn line_is_whole_until_it_is_longer_than_a_record() {
        let all = records(4, &[b"abcd\nabcde\nabcdefgh\n\n"]);
        let tags = String::from_utf8(all.clone()).unwrap();
        let tags: Vec<_> = tags.lines().map(|line| &line[38..]).collect();
        assert_eq!(tags, ["F abcd", "P abcd", "F e", "P abcd", "F efgh", "F "]);
        assert_eq!(shown(&all).0, b"abcd\nabcde\nabcdefgh\n\n");
    }

    #[test]
    fn output_without_an_end_of_line_is_a_part() {
        let all = records(4, &[b"abc"]);
        assert!(all.ends_with(b" P abc\n"));
        assert_eq!(shown(&records(4, &[b"abcd", b"e"])), (b"abcde".to_vec(), 2));
    }

    #[test]
    fn end_of_line_of_a_terminal_is_no_text_wherever_it_is_cut() {
        for pieces in [[&b"abcd\r\n"[..], b""], [b"abcd\r", b"\n"], [b"abcd", b"\r\n"]] {
            let all = records(4, &pieces);
            assert_eq!(shown(&all), (b"abcd\n".to_vec(), 1), "{pieces:?}");
        }
        // One that is not at the end is text.
        assert_eq!(shown(&records(4, &[b"abcd\r", b"e\n"])).0, b"abcd\re\n");
        assert_eq!(shown(&records(4, &[b"abcd\r"])).0, b"abcd\r");
    }

    #[test]
    fn records_hold_all_bytes_however_the_output_is_cut() {
        let text: Vec<u8> =
            (0..2000_u32).map(|i| [b'\n', b'a', 0xff][(i * i % 7 % 3) as usize]).collect();
        for longest in [1, 2, 3, 7, 4096] {
            for size in [1, 2, 5, 64, 2000] {
                let pieces: Vec<_> = text.chunks(size).collect();
                assert_eq!(shown(&records(longest, &pieces)).0, text, "{longest} {size}");
            }
        }
    }
}
