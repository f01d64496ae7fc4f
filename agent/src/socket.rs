//! Connected sockets and listeners over descriptors, the same for vsock (in the guest) and Unix
//! sockets (in component tests).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sys;

/// A connected stream socket. Shutting down its write side leaves the read side open.
#[derive(Debug)]
pub(crate) struct Connection(AsyncFd<OwnedFd>);

impl Connection {
    /// Takes a connected socket that does not block.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        sys::watch::watch(socket).map(Self)
    }

    /// Reads what is there, at most the buffer's length; 0 at the peer's end of output.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let result = ready.try_io(|fd| {
                recv(fd, &mut *buffer, RecvFlags::empty()).map(|(count, _)| count).map_err(into_io)
            });
            match result {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Sends all of `bytes`, waiting for the peer as long as it takes.
    pub(crate) async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            let result = ready.try_io(|fd| send(fd, bytes, SendFlags::NOSIGNAL).map_err(into_io));
            match result {
                Ok(Ok(count)) => bytes = bytes.get(count..).unwrap_or_default(),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Tells the peer that no more bytes will come.
    pub(crate) fn finish(&self) -> io::Result<()> {
        Ok(shutdown(self.0.get_ref(), Shutdown::Write)?)
    }
}

fn into_io(error: rustix::io::Errno) -> io::Error {
    error.into()
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            let result =
                ready.try_io(|fd| recv(fd, &mut *unfilled, RecvFlags::empty()).map_err(into_io));
            if let Ok(result) = result {
                buffer.advance(result?.0);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            let result = ready.try_io(|fd| send(fd, bytes, SendFlags::NOSIGNAL).map_err(into_io));
            if let Ok(result) = result {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}

/// Listens for connections of the host.
///
/// vsock is not part of any namespace: where the kernel has vsock loopback, every process of
/// every container could connect too and drive the agent. So only the host's CID is let in.
#[derive(Debug)]
pub(crate) enum Listener {
    /// In the guest.
    Vsock(AsyncFd<OwnedFd>),
    /// In component tests.
    Unix(tokio::net::UnixListener),
}

impl Listener {
    /// Listens on a vsock port.
    pub(crate) fn vsock(port: u32) -> io::Result<Self> {
        Ok(Self::Vsock(sys::watch::watch(sys::vsock::listen(port)?)?))
    }

    /// Listens on a Unix socket, which must not exist yet.
    pub(crate) fn unix(path: &std::path::Path) -> io::Result<Self> {
        Ok(Self::Unix(tokio::net::UnixListener::bind(path)?))
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        match self {
            Self::Vsock(listener) => loop {
                let mut ready = ready!(listener.poll_read_ready(context))?;
                match ready.try_io(|fd| sys::vsock::accept(fd.as_fd())) {
                    Ok(Ok((socket, sys::vsock::HOST_CID))) => {
                        return Poll::Ready(Connection::new(socket));
                    }
                    Ok(Ok((_, cid))) => log::warn!("refused a connection from CID {cid}"),
                    Ok(Err(error)) => return Poll::Ready(Err(error)),
                    Err(_would_block) => {}
                }
            },
            Self::Unix(listener) => {
                let (stream, _) = ready!(listener.poll_accept(context))?;
                Poll::Ready(Connection::new(OwnedFd::from(stream.into_std()?)))
            }
        }
    }

    /// Waits for the next connection.
    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        std::future::poll_fn(|context| self.poll_accept(context)).await
    }
}

impl Stream for Listener {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(context).map(Some)
    }
}
