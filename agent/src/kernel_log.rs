//! The agent's log: lines in the kernel's ring buffer (/dev/kmsg), which reach the console.
//!
//! Containers can make the agent log, by failing again and again. So lines are counted per second
//! and dropped above a cap. A later line tells how many were dropped.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Lines per second. The attack: a container that fills the host's console log.
const LINES_PER_SECOND: u32 = 50;

/// Longest line in bytes; longer ones are cut. The kernel takes at most about 1000.
const MAX_LINE: usize = 900;

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    dropped: u32,
}

#[derive(Debug)]
struct KernelLog {
    device: File,
    window: Mutex<Window>,
}

/// Sends `log` records and panics to /dev/kmsg, or to stderr where that cannot be opened.
/// What the first process writes to its console is lost when its end stops the machine.
pub(crate) fn install() {
    let device = File::options()
        .write(true)
        .open("/dev/kmsg")
        .or_else(|_| File::options().write(true).open("/dev/stderr"));
    let Ok(device) = device else { return };
    let window = Mutex::new(Window { began: Instant::now(), lines: 0, dropped: 0 });
    let logger = Box::leak(Box::new(KernelLog { device, window }));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
        std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    }
}

/// Logs as much as the kernel does: all there is with its parameter `debug`. Needs /proc.
pub(crate) fn follow_kernel() {
    let parameters = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    log::set_max_level(level(&parameters));
}

fn level(parameters: &str) -> LevelFilter {
    let debug = parameters.split_whitespace().any(|word| word == "debug");
    if debug { LevelFilter::Debug } else { LevelFilter::Info }
}

/// syslog(3) priority of a level, facility "daemon" (3).
const fn priority(level: Level) -> u8 {
    let severity = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    (3 << 3) | severity
}

impl Window {
    /// Whether a line may be written now, and how many dropped ones to confess before it.
    fn admit(&mut self, now: Instant) -> Option<u32> {
        if now.duration_since(self.began).as_secs() >= 1 {
            self.began = now;
            self.lines = 0;
        }
        if self.lines >= LINES_PER_SECOND {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

impl Log for KernelLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // ttrpc logs every closed connection as an error; what matters of it reaches us anyway.
        !metadata.target().starts_with("ttrpc")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Ok(mut window) = self.window.lock() else { return };
        let Some(dropped) = window.admit(Instant::now()) else { return };
        let prefix = priority(record.level());
        if dropped > 0 {
            let line = format!("<{prefix}>cuddy-agent: {dropped} lines dropped\n");
            // A log that cannot be written has nobody to complain to.
            let _ = (&self.device).write_all(line.as_bytes());
        }
        let mut line = format!("<{prefix}>cuddy-agent: {}", record.args()).replace('\n', " ");
        let end = (0..=MAX_LINE.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
        line.truncate(end.unwrap_or(0));
        line.push('\n');
        let _ = (&self.device).write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_kernels_parameter_counts_as_a_whole_word() {
        assert_eq!(level("quiet debug=0 nodebug\n"), LevelFilter::Info);
        assert_eq!(level("panic=1 debug\n"), LevelFilter::Debug);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let began = Instant::now();
        let mut window = Window { began, lines: 0, dropped: 0 };
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(window.admit(began), Some(0));
        }
        assert_eq!(window.admit(began), None);
        assert_eq!(window.admit(began), None);
        assert_eq!(window.admit(began + Duration::from_secs(1)), Some(2));
    }
}
