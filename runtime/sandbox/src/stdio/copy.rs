//! Copying between a host's end and a guest's end, with one fixed buffer for each stream.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Bytes of one stream's buffer: a quarter of a fifo's capacity.
const BUFFER: usize = 16 << 10;

/// Longest pause between two looks at a fifo that nobody reads.
const LOOK: Duration = Duration::from_millis(250);

/// The state of a process's outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Outputs that have not ended.
    pub open: usize,
    /// Bytes delivered; wraps around.
    pub bytes: usize,
}

/// The host's end of an output.
#[derive(Debug)]
pub enum Sink {
    /// A fifo, which is open for reading as well.
    Fifo(pipe::Sender),
    /// The pipe of a logger.
    Pipe(pipe::Sender),
    /// A file. Its writes go to the page cache and are done in place.
    File(File),
}

impl Sink {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Fifo(pipe) | Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::File(file) => file.write_all(bytes),
        }
    }
}

/// Opens a file to append to, with its directories.
///
/// # Errors
/// What the filesystem answered.
pub fn append(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

/// Copies a guest's output until it ends; closes the host's end at once then.
pub async fn output(mut stream: UnixStream, sink: Sink, flow: watch::Sender<Flow>) {
    let mut sink = Some(sink);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                log::warn!("reading a process's output: {error}");
                break;
            }
        };
        if let Some(end) = &mut sink
            && let Err(error) = end.write(&buffer[..count]).await
        {
            // The process must not hang because its log's disk is full.
            log::warn!("writing a process's output: {error}; the rest is discarded");
            sink = None;
        }
        flow.send_modify(|flow| flow.bytes = flow.bytes.wrapping_add(count));
    }
    if let Some(Sink::Fifo(fifo)) = &sink {
        read_by_others(fifo).await;
    }
    // Clients take the end of the fifo for the end of the process's output.
    drop(sink);
    flow.send_modify(|flow| flow.open -= 1);
}

/// Waits until a fifo is empty. A client that is away (containerd's restart) could not even open a
/// fifo without a writer, and what is in it goes with its last holder. The kernel has no event
/// for it, so it is looked for, mostly once.
async fn read_by_others(fifo: &pipe::Sender) {
    let mut pause = Duration::from_millis(5);
    while rustix::io::ioctl_fionread(fifo).is_ok_and(|unread| unread > 0) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK);
    }
}

/// Copies a host's input until it ends or the guest wants no more.
pub async fn input(mut fifo: pipe::Receiver, mut stream: UnixStream) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match fifo.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => {
                if let Err(error) = stream.write_all(&buffer[..count]).await {
                    log::debug!("the guest takes no more input: {error}");
                    return;
                }
            }
            Err(error) => {
                log::warn!("reading a process's input: {error}");
                break;
            }
        }
    }
    if let Err(error) = stream.shutdown().await {
        log::debug!("ending a process's input: {error}");
    }
    // The guest closes its side when it has taken everything; until then the connection stays.
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_bytes_arrive_through_a_slow_reader_and_the_end_follows() {
        let (guest, host) = UnixStream::pair().unwrap();
        let (sender, mut receiver) = pipe::pipe().unwrap();
        let (tx, rx) = watch::channel(Flow { open: 1, bytes: 0 });
        let copy = tokio::spawn(output(host, Sink::Pipe(sender), tx));
        let sent: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            let mut guest = guest;
            guest.write_all(&sent).await.unwrap();
        });
        let mut seen = Vec::new();
        let mut buffer = vec![0; 999];
        while let count @ 1.. = receiver.read(&mut buffer).await.unwrap() {
            seen.extend_from_slice(&buffer[..count]);
        }
        assert!(seen == expected);
        writer.await.unwrap();
        copy.await.unwrap();
        assert_eq!(rx.borrow().open, 0);
    }

    #[tokio::test]
    async fn last_words_wait_for_a_reader_that_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let (mut guest, host) = UnixStream::pair().unwrap();
        let (tx, rx) = watch::channel(Flow { open: 1, bytes: 0 });
        let fifo = pipe::OpenOptions::new().read_write(true).open_sender(&path).unwrap();
        let copy = tokio::spawn(output(host, Sink::Fifo(fifo), tx));
        guest.write_all(b"last words").await.unwrap();
        drop(guest);
        while rx.borrow().bytes == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!copy.is_finished());
        let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path).unwrap());
        assert_eq!(text.await.unwrap(), "last words");
        copy.await.unwrap();
        assert_eq!(rx.borrow().open, 0);
    }

    #[tokio::test]
    async fn end_of_input_is_passed_on_as_half_close() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let (mut sender, receiver) = pipe::pipe().unwrap();
        let copy = tokio::spawn(input(receiver, host));
        sender.write_all(b"last words").await.unwrap();
        drop(sender);
        let mut text = String::new();
        guest.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "last words");
        assert!(!copy.is_finished());
        drop(guest);
        copy.await.unwrap();
    }
}
