//! Copying between a host's end and a guest's end, with one fixed buffer for each stream.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use logs::attached::Attached;
use logs::disks::blocking;
use logs::{Flow, LogSink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Bytes of one stream's buffer: a quarter of a fifo's capacity.
const BUFFER: usize = 16 << 10;

/// Longest pause between two looks at a fifo that nobody reads.
const LOOK: Duration = Duration::from_millis(250);

/// The host's end of an output.
#[derive(Debug)]
pub enum Sink {
    /// A fifo, which is open for reading as well.
    Fifo(pipe::Sender),
    /// The pipe of a logger.
    Pipe(pipe::Sender),
    /// A file. Its disk may be slow or not answer at all: a thread of its own waits for it then,
    /// and the process behind it, but nothing else of the pod.
    File(Arc<File>),
    /// A log that kubelet reads.
    Log(LogSink),
    /// Nothing: only clients that are attached see the output.
    Discard,
}

impl Sink {
    /// Writes the first `count` bytes of a buffer, which comes back.
    async fn write(
        &mut self,
        buffer: Vec<u8>,
        count: usize,
        last_call: &mut watch::Receiver<bool>,
    ) -> (Vec<u8>, io::Result<()>) {
        match self {
            Self::Fifo(fifo) => {
                let written = write_fifo(fifo, &buffer[..count], last_call).await;
                (buffer, written)
            }
            Self::Pipe(pipe) => {
                let written = pipe.write_all(&buffer[..count]).await;
                (buffer, written)
            }
            Self::Discard => (buffer, Ok(())),
            Self::Log(log) => {
                log.write(&buffer[..count]).await;
                (buffer, Ok(()))
            }
            Self::File(file) => {
                let file = file.clone();
                let write = move || {
                    let written = (&*file).write_all(&buffer[..count]);
                    Ok((buffer, written))
                };
                blocking(write).await.unwrap_or_else(|error| (vec![0; BUFFER], Err(error)))
            }
        }
    }
}

async fn write_fifo(
    fifo: &mut pipe::Sender,
    mut bytes: &[u8],
    last_call: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    let mut alone = false;
    while !bytes.is_empty() {
        tokio::select! {
            written = fifo.write(bytes) => bytes = &bytes[written?..],
            () = called(last_call), if !alone => {
                alone = true;
                leave_to_others(fifo)?;
            }
        }
    }
    Ok(())
}

/// Copies a guest's output until it ends; closes the host's end at once then. After `last_call`
/// output for which there is no reader is discarded. Clients that are attached see all of it that
/// they are quick enough for.
pub async fn output(
    mut stream: UnixStream,
    (sink, attached): (Sink, Attached),
    flow: watch::Sender<Flow>,
    mut last_call: watch::Receiver<bool>,
) {
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
        attached.offer(&buffer[..count]);
        if let Some(end) = &mut sink {
            let written;
            (buffer, written) = end.write(buffer, count, &mut last_call).await;
            if let Err(error) = written {
                // The process must not hang because its log's disk is full.
                log::warn!("writing a process's output: {error}; the rest is discarded");
                sink = None;
            }
        }
        flow.send_modify(|flow| flow.bytes = flow.bytes.wrapping_add(count));
    }
    attached.end();
    // Clients take the end of the fifo for the end of the process's output.
    match sink {
        Some(Sink::Fifo(fifo)) => read_by_others(fifo, &mut last_call).await,
        Some(Sink::Log(log)) => log.end().await,
        Some(Sink::Pipe(_) | Sink::File(_) | Sink::Discard) | None => {}
    }
    flow.send_modify(|flow| flow.open -= 1);
}

/// Waits until a fifo is empty. A client that is away (containerd's restart) could not even open a
/// fifo without a writer, and what is in it goes with its last holder. The kernel has no event
/// for it, so it is looked for, mostly once. After `last_call` it waits for a reader only.
async fn read_by_others(mut fifo: pipe::Sender, last_call: &mut watch::Receiver<bool>) {
    let mut pause = Duration::from_millis(5);
    let mut alone = false;
    while rustix::io::ioctl_fionread(&fifo).is_ok_and(|unread| unread > 0) {
        if alone && has_no_reader(&fifo) {
            log::warn!("nobody is there to read the rest of a process's output: it is discarded");
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOK),
            () = called(last_call), if !alone => {
                alone = true;
                if let Err(error) = leave_to_others(&mut fifo) {
                    log::debug!("a fifo's end for writing alone: {error}");
                    return;
                }
            }
        }
    }
}

/// Waits for the last call; for ever if there can't be one.
async fn called(last_call: &mut watch::Receiver<bool>) {
    if last_call.wait_for(|called| *called).await.is_err() {
        std::future::pending().await
    }
}

/// Gives up reading from a fifo, so that the kernel tells when nobody else does.
fn leave_to_others(fifo: &mut pipe::Sender) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", fifo.as_fd().as_raw_fd());
    *fifo = pipe::OpenOptions::new().open_sender(path)?;
    Ok(())
}

fn has_no_reader(fifo: &pipe::Sender) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::new(fifo, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|_| polled[0].revents().contains(PollFlags::ERR))
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
    use std::fs::OpenOptions;

    use super::*;
    use logs::disks::append;

    #[tokio::test]
    async fn all_bytes_arrive_through_a_slow_reader_and_the_end_follows() {
        let (guest, host) = UnixStream::pair().unwrap();
        let (sender, mut receiver) = pipe::pipe().unwrap();
        let (tx, rx) = watch::channel(Flow { open: 1, bytes: 0 });
        let copy = tokio::spawn(output(
            host,
            (Sink::Pipe(sender), Attached::default()),
            tx,
            watch::channel(false).1,
        ));
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

    /// A fifo without reader blocks whoever opens or fills it, as a disk that does not answer does.
    #[tokio::test]
    async fn disk_that_does_not_answer_holds_up_nothing_but_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let sink = Sink::File(append(&path).await.unwrap());
        let (mut guest, host) = UnixStream::pair().unwrap();
        let (tx, rx) = watch::channel(Flow { open: 1, bytes: 0 });
        let copy =
            tokio::spawn(output(host, (sink, Attached::default()), tx, watch::channel(false).1));
        let sent: Vec<u8> = (0..=255).cycle().take(256 << 10).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move { guest.write_all(&sent).await.unwrap() });
        // The fifo is full after 64 KiB; this task would not go on if a write blocked its thread.
        while rx.borrow().bytes < 48 << 10 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!copy.is_finished() && rx.borrow().bytes < expected.len());
        let read = blocking(move || {
            let mut seen = vec![0; 256 << 10];
            std::io::Read::read_exact(&mut &reader, &mut seen)?;
            Ok(seen)
        });
        assert!(read.await.unwrap() == expected);
        writer.await.unwrap();
        copy.await.unwrap();
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
        let copy = tokio::spawn(output(
            host,
            (Sink::Fifo(fifo), Attached::default()),
            tx,
            watch::channel(false).1,
        ));
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
