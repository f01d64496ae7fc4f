//! Log files of containers, as kubelet reads them: `TIME STREAM TAG TEXT` a line, where the tag P
//! says that the line goes on.

use std::path::Path;

/// Which output a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a log, put together from its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When its first part was written, RFC 3339 with nanoseconds.
    pub time: String,
    /// Which output it is of.
    pub stream: Stream,
    /// The text, without line feed.
    pub text: String,
}

/// Parses a log.
///
/// # Panics
/// With the first line that is not of the form.
pub fn parse(log: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut goes_on = [false; 2];
    for line in log.lines() {
        let fields: Vec<_> = line.splitn(4, ' ').collect();
        let [time, stream, tag, text] = fields[..] else { panic!("not a line of a log: {line:?}") };
        let (stream, index) = match stream {
            "stdout" => (Stream::Stdout, 0),
            "stderr" => (Stream::Stderr, 1),
            _ => panic!("not an output: {line:?}"),
        };
        assert!(tag == "P" || tag == "F", "not a tag: {line:?}");
        let open = lines.iter_mut().rev().find(|one| one.stream == stream);
        match open.filter(|_| goes_on[index]) {
            Some(open) => open.text.push_str(text),
            None => lines.push(Line { time: time.to_owned(), stream, text: text.to_owned() }),
        }
        goes_on[index] = tag == "P";
    }
    lines
}

/// The lines of a log file; none if it does not exist.
pub fn read(path: &Path) -> Vec<Line> {
    parse(&std::fs::read_to_string(path).unwrap_or_default())
}

/// The text of one output in a log file, a line feed after each line.
pub fn text(path: &Path, stream: Stream) -> String {
    let lines = read(path).into_iter().filter(|line| line.stream == stream);
    lines.map(|line| line.text + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_lines() {
        let log = "2026-11-22T04:00:00.1Z stdout P one \n2026-11-22T04:00:00.2Z stderr F other\n\
                   2026-11-22T04:00:00.3Z stdout F line\n2026-11-22T04:00:00.4Z stdout F \n";
        let lines = parse(log);
        let texts: Vec<_> = lines.iter().map(|line| (line.stream, line.text.as_str())).collect();
        let expected =
            [(Stream::Stdout, "one line"), (Stream::Stderr, "other"), (Stream::Stdout, "")];
        assert_eq!(texts, expected);
        assert_eq!(lines[0].time, "2026-11-22T04:00:00.1Z");
    }

    #[test]
    #[should_panic(expected = "not a tag")]
    fn a_tag_is_one_of_two() {
        parse("2026-11-22T04:00:00.1Z stdout X one\n");
    }
}
