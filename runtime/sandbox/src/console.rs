//! The guest's console output: kept in a file of bounded size, with its last lines at hand for
//! error messages. The guest decides what is in it, so it is shown with control characters
//! replaced, and never more than a little.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Largest file in bytes. A full one is kept as `.1` and a new one begun, so that a guest that
/// prints for ever takes twice this on the host and no more.
const MAX_FILE: u64 = 128 << 10;

/// Bytes kept at hand.
const TAIL: usize = 2 << 10;

/// Lines shown in an error message.
const LINES: usize = 5;

/// A console's output.
#[derive(Debug, Clone)]
pub struct Console(Arc<Mutex<Vec<u8>>>);

impl Console {
    /// Starts to collect into the file at `path`; returns the end to write to, which never
    /// blocks its writer.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn start(path: &Path) -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let reader = pipe::Receiver::from_owned_fd(reader)?;
        let log = Log::create(path.to_owned())?;
        let console = Self(Arc::default());
        tokio::spawn(console.clone().collect(reader, log));
        Ok((console, writer))
    }

    async fn collect(self, mut reader: pipe::Receiver, mut log: Log) {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            self.push(&buffer[..count]);
            if let Err(error) = log.write(&buffer[..count]) {
                log::debug!("writing the guest's console: {error}");
            }
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
    }

    /// The last lines in one line of text, or nothing if there was no output.
    pub fn last_lines(&self) -> String {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        let clean = |line: &str| -> String {
            line.trim().chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
        };
        let mut lines: Vec<String> =
            text.lines().map(clean).filter(|line| !line.is_empty()).collect();
        lines.drain(..lines.len().saturating_sub(LINES));
        lines.join(" | ")
    }
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Log {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::create(&path)?;
        Ok(Self { path, file, size: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= MAX_FILE {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            *self = Self::create(std::mem::take(&mut self.path))?;
        }
        self.size += u64::try_from(bytes.len()).unwrap_or(MAX_FILE);
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_are_few_and_harmless() {
        let console = Console(Arc::default());
        assert_eq!(console.last_lines(), "");
        for n in 0..1000 {
            console.push(format!("line {n} \x1b[31m\r\n").as_bytes());
        }
        let text = console.last_lines();
        assert!(
            text.starts_with("line 995 ?[31m | ") && text.ends_with("line 999 ?[31m"),
            "{text}"
        );
    }

    #[test]
    fn file_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut log = Log::create(path.clone()).unwrap();
        for _ in 0..1000 {
            log.write(&[b'x'; 1024]).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= MAX_FILE + 1024);
        assert!(std::fs::read_dir(dir.path()).unwrap().count() == 2);
    }
}
