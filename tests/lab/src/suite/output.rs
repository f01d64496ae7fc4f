//! What libtest's output says while it comes in.

use std::time::{Duration, Instant};

/// Lines of what a failed test said that are kept, and characters of each.
const SAID: usize = 8;
const WIDTH: usize = 600;

/// A test that failed, and how what it said begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The test.
    pub test: String,
    /// Not more than a few lines.
    pub lines: Vec<String>,
}

/// Reads the output of a test program that runs its tests one after another.
#[derive(Debug)]
pub struct Reader {
    partial: Vec<u8>,
    began: Instant,
    running: Option<String>,
    /// Tests that passed, with the time each took.
    pub passed: Vec<(String, Duration)>,
    /// Tests that failed.
    pub failed: Vec<String>,
    /// What those that failed said.
    pub said: Vec<Said>,
    saying: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            partial: Vec::new(),
            began: Instant::now(),
            running: None,
            passed: Vec::new(),
            failed: Vec::new(),
            said: Vec::new(),
            saying: false,
        }
    }
}

impl Reader {
    /// Takes the next piece of output, which came `now`.
    pub fn take(&mut self, bytes: &[u8], now: Instant) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    self.line(now);
                    self.partial.clear();
                }
                _ => self.partial.push(*byte),
            }
        }
        let partial = String::from_utf8_lossy(&self.partial).into_owned();
        if let Some(name) = begun(&partial) {
            self.running = Some(name.to_owned());
        }
    }

    /// The test that has begun and not ended.
    pub fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    fn line(&mut self, now: Instant) {
        let line = String::from_utf8_lossy(&self.partial).into_owned();
        self.keep(&line);
        if line.starts_with("running ") {
            self.began = now;
        }
        // What a test's own processes print may stand between a test's name and its result.
        let name = begun(&line).map(str::to_owned).or_else(|| self.running.clone());
        let Some(name) = name else { return };
        let took = now.saturating_duration_since(self.began);
        if line.ends_with("ok") && (line.starts_with("test ") || line == "ok") {
            self.passed.push((name, took));
        } else if line.ends_with("FAILED")
            && (line.starts_with("test ") || line == "FAILED")
            && !line.starts_with("test result")
        {
            self.failed.push(name);
        } else {
            self.running = Some(name);
            return;
        }
        self.running = None;
        self.began = now;
    }
}

impl Reader {
    /// Keeps the line if it is of what a failed test said.
    fn keep(&mut self, line: &str) {
        let of = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"));
        if let Some(test) = of {
            self.said.push(Said { test: test.to_owned(), lines: Vec::new() });
            self.saying = true;
        } else if line == "failures:" {
            self.saying = false;
        } else if self.saying
            && !line.is_empty()
            && let Some(said) = self.said.last_mut()
            && said.lines.len() < SAID
        {
            said.lines.push(line.chars().take(WIDTH).collect());
        }
    }
}

/// The test that a line is about, if it is one of libtest's.
fn begun(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("test ")?.split_once(" ... ")?;
    (!name.contains(' ')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> Reader {
        let mut reader = Reader::default();
        for piece in pieces {
            reader.take(piece.as_bytes(), Instant::now());
        }
        reader
    }

    fn passed(reader: &Reader) -> Vec<&str> {
        reader.passed.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn results_are_told_apart() {
        let reader = read(&[
            "\nrunning 3 tests\ntest a::one ... ok\ntest a::tw",
            "o ... FAILED\ntest three ... ",
        ]);
        assert_eq!(passed(&reader), ["a::one"]);
        assert_eq!(reader.failed, ["a::two"]);
        assert_eq!(reader.running(), Some("three"));
    }

    #[test]
    fn beginning_of_what_a_failed_test_said_is_kept() {
        let noise = "more\n".repeat(2 * SAID);
        let reader = read(&[
            "failures:\n\n---- one stdout ----\n\nthread 'one' panicked:\nwhy\n",
            &format!("{noise}---- a::two stdout ----\nbecause\n\nfailures:\n    one\n"),
        ]);
        let [one, two] = &reader.said[..] else { panic!("{:?}", reader.said) };
        assert_eq!((one.test.as_str(), one.lines.len()), ("one", SAID));
        assert_eq!(one.lines[..2], ["thread 'one' panicked:", "why"]);
        assert_eq!((two.test.as_str(), &two.lines[..]), ("a::two", &["because".to_owned()][..]));
    }

    #[test]
    fn noise_between_name_and_result_hides_neither() {
        let reader = read(&["test one ... ctr: something\n", "more\nok\ntest two ... ok\n"]);
        assert_eq!(passed(&reader), ["one", "two"]);
        assert_eq!(reader.running(), None);
        let reader = read(&["test result: FAILED. 1 passed; 1 failed; 0 ignored\n"]);
        assert!(reader.failed.is_empty() && reader.passed.is_empty());
    }

    #[test]
    fn text_that_is_no_text_is_read_as_well() {
        let mut reader = Reader::default();
        reader.take(b"\xff\xfe\ntest one ... ok\n", Instant::now());
        assert_eq!(passed(&reader), ["one"]);
    }
}
