//! Log lines to the fifo `log` in the bundle, which containerd copies to its own log. It may go
//! away and come back; lines that nobody reads are dropped, and no one ever waits for them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::OFlags;

/// Longest line in bytes: a pipe takes lines up to `PIPE_BUF` whole or not at all.
const MAX_LINE: usize = 4000;

struct Fifo {
    file: Option<File>,
    sandbox: String,
}

/// Logs to the fifo at `path` from now on, panics included. Without the fifo nothing is logged.
pub(crate) fn install(path: &Path, sandbox: &str, debug: bool) {
    let file = open(path).ok();
    let logger = Fifo { file, sandbox: sandbox.to_owned() };
    if log::set_logger(Box::leak(Box::new(logger))).is_ok() {
        log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    }
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// Opened for reading as well, so that writing never fails for want of a reader.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

impl Log for Fifo {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries report every broken connection as an error.
        let own = ["host", "machine", "template", "sandbox", "containerd_shim_cuddy_v2"];
        let crate_name = metadata.target().split("::").next().unwrap_or_default();
        own.contains(&crate_name) && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(mut file) = self.file.as_ref()
            && self.enabled(record.metadata())
        {
            let line = line(record.level(), &self.sandbox, &record.args().to_string());
            let _nobody_reads = file.write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// A line as containerd's own shims write them.
fn line(level: Level, sandbox: &str, message: &str) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    };
    let mut end = message.len().min(MAX_LINE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("level={level} msg={:?} runtime=cuddy sandbox={sandbox}\n", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_stays_on_one_bounded_line() {
        let line = line(Level::Warn, "pod", &format!("a\nb\"c {}", "ä".repeat(5000)));
        assert!(line.starts_with("level=warning msg=\"a\\nb\\\"c ä"), "{line}");
        assert_eq!(line.lines().count(), 1);
        assert!(line.len() < 4096, "{}", line.len());
    }

    #[test]
    fn fifo_without_reader_takes_lines_and_a_full_one_drops_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let file = open(&path).unwrap();
        let fifo = Fifo { file: Some(file), sandbox: "pod".into() };
        for _ in 0..1000 {
            let message = "x".repeat(500);
            let args = format_args!("{message}");
            let record = Record::builder().target("sandbox").level(Level::Error).args(args).build();
            fifo.log(&record);
        }
    }
}
