//! What the caller's code gets of a client: the other ends of a process's streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, DuplexStream, ReadBuf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use crate::carrier::Output;
use crate::carrier::Slot;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters of a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The ends of a process's streams. Those that the session did not ask for are missing.
#[derive(Debug)]
pub struct Streams {
    /// What the client sends to standard input. It ends when the client says so, or has gone.
    pub stdin: Option<Input>,
    /// What goes to the client as standard output.
    pub stdout: Option<Output>,
    /// What goes to the client as standard error.
    pub stderr: Option<Output>,
    /// The terminal's size: the latest that the client told. With a terminal the first one is
    /// there from the start, if the client told it within [`crate::Limits::first_size`].
    pub resize: watch::Receiver<Option<Size>>,
}

/// Input from a client. It ends when the client says so, has gone, or the server is shut down.
pub struct Input {
    pipe: DuplexStream,
    deaf: BoxFuture<'static, ()>,
    _slot: Option<Slot>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Input").field(&self.pipe).finish()
    }
}

impl Input {
    /// The reading end of `pipe`, which `deaf` ends.
    pub(crate) fn new(pipe: DuplexStream, deaf: &CancellationToken, slot: Option<Slot>) -> Self {
        Self { pipe, deaf: deaf.clone().cancelled_owned().boxed(), _slot: slot }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.pipe).poll_read(context, buffer) {
            // Polled again after its end, the future would panic; it isn't: the stream has ended.
            Poll::Pending => self.deaf.poll_unpin(context).map(|()| {
                self.deaf = futures::future::ready(()).boxed();
                Ok(())
            }),
            ready => ready,
        }
    }
}
