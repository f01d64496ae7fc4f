//! Connections to the shim, counted: whoever asked for its end has to have its answer first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Pause after a connection that could not be taken, as for want of descriptors: it still waits, so
/// the next attempt would fail at once. The server would try again without end.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection.
#[derive(Debug)]
pub(crate) struct Caller {
    stream: UnixStream,
    present: watch::Sender<usize>,
}

/// Callers of this process's own user, others are turned away; and how many there are.
pub(crate) fn callers(
    listener: UnixListener,
) -> (impl Stream<Item = io::Result<Caller>> + Send, watch::Receiver<usize>) {
    let (present, count) = watch::channel(0);
    let next = |(listener, present): (UnixListener, watch::Sender<usize>)| async {
        let mut failing = false;
        loop {
            match accept(&listener, &present).await {
                Ok(Some(caller)) => return Some((Ok(caller), (listener, present))),
                Ok(None) => continue,
                Err(error) if failing => log::trace!("{error}"),
                Err(error) => log::error!("no connection can be taken: {error}; trying on"),
            }
            failing = true;
            tokio::time::sleep(PAUSE).await;
        }
    };
    (stream::unfold((listener, present), next), count)
}

/// Takes the next connection; none if it is that of another user.
async fn accept(
    listener: &UnixListener,
    present: &watch::Sender<usize>,
) -> io::Result<Option<Caller>> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    if uid != rustix::process::geteuid().as_raw() {
        log::warn!("turned away a caller with user id {uid}");
        return Ok(None);
    }
    Ok(Some(Caller::new(stream, present.clone())))
}

impl Caller {
    fn new(stream: UnixStream, present: watch::Sender<usize>) -> Self {
        present.send_modify(|count| *count += 1);
        Self { stream, present }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.present.send_modify(|count| *count -= 1);
    }
}

impl AsyncRead for Caller {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Caller {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn callers_are_counted_until_they_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (callers, mut count) = callers(UnixListener::bind(&path).unwrap());
        let mut callers = std::pin::pin!(callers);
        let _clients = [UnixStream::connect(&path).await, UnixStream::connect(&path).await];
        let first = callers.next().await.unwrap().unwrap();
        let second = callers.next().await.unwrap().unwrap();
        assert_eq!(*count.borrow_and_update(), 2);
        drop(first);
        assert_eq!(*count.borrow_and_update(), 1);
        drop(second);
        assert_eq!(*count.wait_for(|count| *count == 0).await.unwrap(), 0);
    }
}
