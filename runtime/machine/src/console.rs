//! What the guest prints on its console, and what the VMM prints on its standard error. Both are
//! kept in files of bounded size, with the last lines at hand for error messages. The guest decides
//! what is in them, and may have taken over the VMM. So their text is shown with control characters
//! replaced, and only a little of it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::text::printable;

/// Largest file in bytes. A full one is kept as `.1` and a new one begun, so that a guest that
/// prints for ever takes twice this on the host and no more.
const MAX_FILE: u64 = 128 << 10;

/// Bytes kept at hand.
const TAIL: usize = 8 << 10;

/// Lines shown in an error message.
const LINES: usize = 5;

/// Most bytes shown of each.
const MAX_LINE: usize = 200;

/// What the kernel's first line about a fatal error of its own holds; the lines after it are
/// a trace that is longer than an error message may be.
const FATAL: [&str; 3] = ["Kernel panic", "BUG: ", "Oops: "];

/// How long the output of a machine that is over may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is written for a machine. Each writer has a pipe of its own. The attack: a guest that prints
/// what its VMM might say, and so misleads whoever reads why the machine ended.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// By the guest.
    pub console: Console,
    /// By the VMM, on its standard error.
    pub vmm: Console,
}

/// The ends that are written to; see [`Outputs`].
#[derive(Debug)]
pub struct OutputEnds {
    /// The guest's.
    pub console: OwnedFd,
    /// The VMM's.
    pub vmm: OwnedFd,
}

impl Outputs {
    /// Starts to collect into files at `console` and `vmm`, as [`Console::start`] does.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn start(console: &Path, vmm: &Path) -> io::Result<(Self, OutputEnds)> {
        let ((console, console_end), (vmm, vmm_end)) =
            (Console::start(console)?, Console::start(vmm)?);
        Ok((Self { console, vmm }, OutputEnds { console: console_end, vmm: vmm_end }))
    }

    /// Waits for both as [`Console::complete`] does.
    pub async fn complete(&self) {
        tokio::join!(self.console.complete(), self.vmm.complete());
    }
}

/// The output of a console.
#[derive(Debug, Clone)]
pub struct Console {
    tail: Arc<Mutex<Vec<u8>>>,
    over: watch::Receiver<bool>,
}

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
        let (end, over) = watch::channel(false);
        let console = Self { tail: Arc::default(), over };
        let collecting = console.clone().collect(reader, log);
        tokio::spawn(async move {
            collecting.await;
            end.send_replace(true);
        });
        Ok((console, writer))
    }

    /// Waits until all writers have closed their end and all that they wrote is at hand, but not
    /// for long: they might live on.
    pub async fn complete(&self) {
        let mut over = self.over.clone();
        if tokio::time::timeout(LAST_WORDS, over.wait_for(|over| *over)).await.is_err() {
            log::debug!("the console is still open");
        }
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
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
    }

    /// The last lines in one line of text, or nothing if there was no output.
    pub fn last_lines(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(LINES)..].join(" | ")
    }

    /// As [`Self::last_lines`], but the first lines of the kernel's own account of its end, if
    /// there is one.
    pub fn panic_lines(&self) -> String {
        let lines = self.lines();
        let fatal = |line: &String| FATAL.iter().any(|text| line.contains(text));
        let last = lines.len().saturating_sub(LINES);
        let first = lines.iter().position(fatal).unwrap_or(last);
        lines[first..].iter().take(LINES).cloned().collect::<Vec<_>>().join(" | ")
    }

    fn lines(&self) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        text.lines().map(|line| printable(line, MAX_LINE)).filter(|line| !line.is_empty()).collect()
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
        let console = Console { tail: Arc::default(), over: watch::channel(false).1 };
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
    fn panic_is_told_by_its_first_lines() {
        let console = Console { tail: Arc::default(), over: watch::channel(false).1 };
        console.push(b"noise\n[1.0] Kernel panic - not syncing: why\n");
        for n in 0..40 {
            console.push(format!("[1.0]  ? frame_{n}\n").as_bytes());
        }
        let text = console.panic_lines();
        assert!(text.starts_with("[1.0] Kernel panic - not syncing: why | "), "{text}");
        assert!(text.ends_with("frame_3"), "{text}");
    }

    #[tokio::test]
    async fn complete_console_has_all_that_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let (console, writer) = Console::start(&dir.path().join("console.log")).unwrap();
        rustix::io::write(&writer, b"last words\n").unwrap();
        drop(writer);
        assert_eq!(console.last_lines(), "");
        console.complete().await;
        assert_eq!(console.last_lines(), "last words");
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
