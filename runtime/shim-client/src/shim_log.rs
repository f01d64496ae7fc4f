//! What a shim logs: lines into the fifo `log` of the bundle that it was started in. Somebody has
//! to hold the fifo open before a shim of containerd starts, which waits for that. Who reads it
//! must go on, because such a shim waits again when the fifo is full.

use std::io;
use std::path::Path;

use log::Level;
use rustix::fs::{CWD, Mode, mkfifoat};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::{OpenOptions, Receiver};

use crate::connection::Connection;
use crate::text::printable;

const NAME: &str = "log";

/// Longest line that is taken as one.
const MAX_LINE: u64 = 16 << 10;

/// Makes a bundle's fifo, or takes the one that is there, and holds it open.
///
/// # Errors
/// What the kernel answered, and that the file is no fifo.
pub(crate) fn open(bundle: &Path) -> io::Result<Receiver> {
    let path = bundle.join(NAME);
    match mkfifoat(CWD, &path, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // For writing as well: opening waits for nobody then, and a fifo without writers is no end.
    OpenOptions::new().read_write(true).open_receiver(path)
}

/// Hands on to this process's log what the shim writes, until the connection to it is over.
pub(crate) fn follow(fifo: Receiver, id: String, connection: &Connection) {
    let over = connection.ending();
    tokio::spawn(async move {
        tokio::select! {
            () = over => {}
            ended = copy(fifo, &id) => {
                if let Err(error) = ended {
                    log::warn!("reading the log of shim {id}: {error}");
                }
            }
        }
    });
}

async fn copy(fifo: Receiver, id: &str) -> io::Result<()> {
    let mut lines = BufReader::new(fifo);
    loop {
        let mut line = Vec::new();
        if (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        log::log!(target: "shim", level(&line), "{id}: {}", printable(&line));
    }
}

/// How much a line matters, by the words of Go's `logrus`, which all shims write.
fn level(line: &str) -> Level {
    let word = line.split(' ').take(3).find_map(|word| word.strip_prefix("level="));
    match word.map(str::trim_end) {
        Some("panic" | "fatal" | "error") => Level::Error,
        Some("warning" | "warn") => Level::Warn,
        Some("debug") => Level::Debug,
        Some("trace") => Level::Trace,
        _ => Level::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_matter_as_much_as_their_shim_says() {
        assert_eq!(level("time=\"2026\" level=warning msg=\"x level=error\""), Level::Warn);
        assert_eq!(level("level=error\n"), Level::Error);
        assert_eq!(level("time=\"1\" level=debug msg=y"), Level::Debug);
        assert_eq!(level("fatal error: stack overflow"), Level::Info);
        assert_eq!(level(""), Level::Info);
    }

    #[tokio::test]
    async fn fifo_is_made_once_and_nothing_else_is_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path()).unwrap();
        let _second = open(dir.path()).unwrap();
        // A shim of containerd opens it for writing, which waits for a reader.
        std::fs::OpenOptions::new().write(true).open(dir.path().join(NAME)).unwrap();
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        std::fs::write(dir.path().join(NAME), "text").unwrap();
        assert!(open(dir.path()).is_err());
    }
}
