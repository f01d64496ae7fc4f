//! Copies between a process and its stream connections. Each direction has one buffer of
//! [`BUFFER`] bytes; who reads slowly makes the writer wait, however long.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::reaper::Exit;
use crate::socket::Connection;
use crate::sys;

/// Bytes in flight per direction.
const BUFFER: usize = 32 << 10;

/// How long after a process's exit others (its background children) may still write.
const AFTER_EXIT: Duration = Duration::from_millis(500);

/// How long the host may take to close a connection after our end of output.
const LINGER: Duration = Duration::from_secs(30);

/// Whether and how a process has ended.
pub(crate) type ExitWatch = watch::Receiver<Option<Exit>>;

/// A process's side of a stream: a pipe or a terminal, which does not block.
pub(crate) type Endpoint = Arc<AsyncFd<OwnedFd>>;

/// Makes an endpoint of a descriptor.
pub(crate) fn endpoint(descriptor: OwnedFd) -> io::Result<Endpoint> {
    let flags = rustix::fs::fcntl_getfl(&descriptor)?;
    rustix::fs::fcntl_setfl(&descriptor, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(Arc::new(sys::watch::watch(descriptor)?))
}

/// Reads once; 0 at the end. A terminal without processes answers EIO, which is its end.
async fn read(source: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> usize {
    loop {
        let Ok(mut ready) = source.readable().await else { return 0 };
        match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut *buffer)?)) {
            Ok(Ok(count)) => return count,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(_)) => return 0,
            Err(_would_block) => {}
        }
    }
}

async fn write_all(sink: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = sink.writable().await?;
        match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
            Ok(Ok(count)) => bytes = bytes.get(count..).unwrap_or_default(),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    Ok(())
}

async fn ended(exit: &mut ExitWatch) {
    // An error means that the process has been forgotten, which also ends its streams.
    let _ = exit.wait_for(Option::is_some).await.map(drop);
}

/// Carries input until the host ends it, the process closes it, or the process has exited.
/// Dropping the last endpoint of a pipe is the process's end of input.
pub(crate) async fn carry_input(connection: Connection, sink: Endpoint, mut exit: ExitWatch) {
    tokio::select! {
        () = copy_input(&connection, &sink) => {}
        () = ended(&mut exit) => {}
    }
}

async fn copy_input(connection: &Connection, sink: &Endpoint) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match connection.receive(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        if write_all(sink, &buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Carries output until its end, then ends the connection. After the process's exit others may
/// write for [`AFTER_EXIT`]; what is in the pipe then is still delivered.
pub(crate) async fn carry_output(source: Endpoint, connection: Connection, mut exit: ExitWatch) {
    let mut output = Output { connection, broken: false };
    let mut buffer = vec![0; BUFFER];
    let mut deadline = None;
    loop {
        tokio::select! {
            biased;
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                drain(&source, &mut output, &mut buffer).await;
                break;
            }
            () = ended(&mut exit), if deadline.is_none() => {
                deadline = Some(Instant::now() + AFTER_EXIT);
            }
            count = read(&source, &mut buffer) => match count {
                0 => break,
                count => output.deliver(&buffer[..count]).await,
            },
        }
    }
    output.end().await;
}

/// Delivers what is in the pipe now, not what is written meanwhile.
async fn drain(source: &AsyncFd<OwnedFd>, output: &mut Output, buffer: &mut [u8]) {
    let available = rustix::io::ioctl_fionread(source.get_ref()).unwrap_or(0);
    let mut left = usize::try_from(available).unwrap_or(0);
    while left > 0 {
        let wanted = left.min(buffer.len());
        match rustix::io::read(source.get_ref(), &mut buffer[..wanted]) {
            Ok(0) => return,
            Ok(count) => {
                left -= count;
                output.deliver(&buffer[..count]).await;
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

struct Output {
    connection: Connection,
    broken: bool,
}

impl Output {
    /// A host that closed the stream does not want the output; the process may still write it.
    async fn deliver(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.broken = self.connection.send_all(bytes).await.is_err();
        }
    }

    async fn end(self) {
        if self.connection.finish().is_ok() {
            // Closing at once could cut off what the host has not read yet.
            let _ = timeout(LINGER, self.connection.receive(&mut [0])).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{carry_input, carry_output, endpoint};
    use crate::reaper::Exit;
    use crate::socket::Connection;
    use std::os::fd::OwnedFd;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::watch;

    fn connection() -> (Connection, UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let theirs = UnixStream::from_std(theirs).unwrap();
        (Connection::new(OwnedFd::from(ours)).unwrap(), theirs)
    }

    #[tokio::test]
    async fn megabytes_pass_a_slow_reader_unharmed() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (connection, mut host) = connection();
        let (_exit, watch) = watch::channel(None);
        let writer = std::thread::spawn(move || {
            let mut file = std::fs::File::from(write);
            let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
        });
        tokio::spawn(carry_output(endpoint(read).unwrap(), connection, watch));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut all = Vec::new();
        host.read_to_end(&mut all).await.unwrap();
        writer.join().unwrap();
        assert_eq!(all.len(), 1_200_000);
        let words = all.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        assert!(words.eq(0..300_000));
    }

    #[tokio::test]
    async fn a_background_writer_does_not_hold_the_end() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (connection, mut host) = connection();
        let (exit, watch) = watch::channel(None);
        rustix::io::write(&write, b"last words").unwrap();
        exit.send_replace(Some(Exit { status: 0, at_unix_ns: 0 }));
        tokio::spawn(carry_output(endpoint(read).unwrap(), connection, watch));
        let mut all = Vec::new();
        host.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"last words");
        drop(write);
    }

    #[tokio::test]
    async fn the_hosts_end_of_input_reaches_the_process() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (connection, mut host) = connection();
        let (_exit, watch) = watch::channel(None);
        tokio::spawn(carry_input(connection, endpoint(write).unwrap(), watch));
        host.write_all(b"input").await.unwrap();
        host.shutdown().await.unwrap();
        let text = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut text).unwrap();
            text
        });
        assert_eq!(text.await.unwrap(), "input");
    }
}
