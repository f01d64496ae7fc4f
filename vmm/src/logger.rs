//! Log lines of this process: warnings and errors, to standard error, which the shim
//! collects in the sandbox's `vmm.log`.

use std::fmt::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

/// Longest message. The attack: libraries put guest strings of up to a megabyte into theirs.
const MAX_MESSAGE: usize = 512;

/// Writes one line per record.
struct Stderr;

/// Makes everything that is logged from now on appear on standard error.
pub fn start() {
    // Only fails if it was done before.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Warn && virtio::log_permits(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // One write per line, so that lines of several threads don't mix.
            let line = line(record.level(), &record.args().to_string());
            let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// A log line of limited length in which nothing can pass for another line or move a cursor.
fn line(level: log::Level, message: &str) -> String {
    let mut line = format!("cuddy-vmm: {level}: ");
    for letter in message.chars().take(MAX_MESSAGE) {
        if letter.is_control() {
            // Writing to a string can't fail.
            let _ = write!(line, "{}", letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_messages_stay_one_short_line() {
        let line = line(log::Level::Warn, &format!("a\nb\x1b[2J{}", "x".repeat(10_000)));
        assert!(line.starts_with("cuddy-vmm: WARN: a\\nb\\u{1b}[2J"), "{line}");
        assert_eq!(line.lines().count(), 1);
        assert!(line.len() < 600);
    }
}
