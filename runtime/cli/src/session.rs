//! A process's streams, carried between this terminal and the daemon: exec and attach.
//!
//! The daemon gives an address, to which a WebSocket carries numbered channels. The sub-protocol is
//! `v5.channel.k8s.io`: the first byte of a message is its channel. The byte 255 and a channel
//! close that channel.

mod detach;
mod input;
mod outcome;

pub(crate) use input::Input;
pub(crate) use outcome::Outcome;

use std::io;
use std::time::Duration;

use anyhow::Context;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::either::Either;

use crate::client::Client;
use crate::terminal;
use detach::Keys;

const PROTOCOL: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// How long the daemon may take to answer the end of a connection. Nothing depends on it.
const CLOSING: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<Either<UnixStream, TcpStream>>;

/// What is at the other end of a session's streams.
#[derive(Debug)]
pub(crate) struct Ends<O, E> {
    /// What the process reads; none: nothing is sent.
    pub(crate) input: Option<Input>,
    /// Where its output goes.
    pub(crate) output: O,
    /// Where its errors go.
    pub(crate) errors: E,
    /// Whether the process has a terminal, so that the size of ours is told, and keys detach.
    pub(crate) tty: bool,
}

/// How a session came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The daemon told this.
    Told(Outcome),
    /// The user pressed Ctrl-P Ctrl-Q.
    Detached,
}

/// A connection to the streams of a process.
#[derive(Debug)]
pub(crate) struct Session {
    socket: Socket,
}

impl Session {
    /// Connects to the address that the daemon gave: over its socket on this node if this user
    /// may, else to the port of the address.
    ///
    /// # Errors
    /// Who could not be reached, or what the other end said instead.
    pub(crate) async fn connect(client: &Client, url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").with_context(|| format!("no address: {url:?}"))?;
        let host = rest.split('/').next().unwrap_or_default();
        let unix = match client.stream_socket().await? {
            Some(path) => UnixStream::connect(path).await.ok(),
            None => None,
        };
        let stream = match unix {
            Some(stream) => Either::Left(stream),
            None => {
                let stream = TcpStream::connect(host).await;
                Either::Right(stream.with_context(|| format!("connecting to {host} for streams"))?)
            }
        };
        let request = ClientRequestBuilder::new(format!("ws://{rest}").parse()?);
        let request = request.with_sub_protocol(PROTOCOL);
        let connected = tokio_tungstenite::client_async(request, stream).await;
        let (socket, _) = connected.with_context(|| format!("asking {host} for streams"))?;
        Ok(Self { socket })
    }

    /// Carries the streams to their end.
    ///
    /// # Errors
    /// The connection broke, or an end of it on this side did.
    pub(crate) async fn carry<O, E>(self, ends: Ends<O, E>) -> anyhow::Result<End>
    where
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let Ends { input, output, errors, tty } = ends;
        let (sink, stream) = self.socket.split();
        let received = receive(stream, output, errors);
        tokio::pin!(received);
        // Each in its time: a process that waits for its output to be read reads no input.
        tokio::select! {
            told = &mut received => Ok(End::Told(told?)),
            sent = send(sink, input, tty) => {
                sent?;
                let _closed = timeout(CLOSING, received).await;
                Ok(End::Detached)
            }
        }
    }
}

/// Writes what comes, until the other end says how it ended.
async fn receive(
    mut stream: SplitStream<Socket>,
    mut output: impl AsyncWrite + Unpin,
    mut errors: impl AsyncWrite + Unpin,
) -> anyhow::Result<Outcome> {
    let mut told = None;
    while let Some(message) = stream.next().await {
        let bytes = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(_)) => {
                // The library's answer goes out with the next look, which finds the end.
                let _closed = timeout(CLOSING, stream.next()).await;
                break;
            }
            Ok(_) => continue,
            Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => break,
            Err(error) => return Err(error).context("the daemon's stream"),
        };
        match bytes.split_first() {
            Some((&STDOUT, content)) => write(&mut output, content).await?,
            Some((&STDERR, content)) => write(&mut errors, content).await?,
            Some((&ERROR, content)) if !content.is_empty() => told = Some(Outcome::read(content)),
            _ => {}
        }
    }
    told.context("the daemon hung up before the process ended: look at its log")
}

async fn write(to: &mut (impl AsyncWrite + Unpin), content: &[u8]) -> io::Result<()> {
    to.write_all(content).await?;
    to.flush().await
}

/// Sends input and sizes of the terminal, until the user detaches.
async fn send(
    mut sink: SplitSink<Socket, Message>,
    mut input: Option<Input>,
    tty: bool,
) -> anyhow::Result<()> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut keys = Keys::default();
    if tty {
        sink.send(size()).await?;
    }
    loop {
        tokio::select! {
            Some(()) = resized.recv(), if tty => sink.send(size()).await?,
            piece = next(&mut input) => match piece {
                Some(piece) if tty => {
                    let (content, leaves) = keys.take(&piece);
                    sink.send(message(STDIN, &content)).await?;
                    if leaves {
                        return Ok(sink.send(Message::Close(None)).await?);
                    }
                }
                Some(piece) => sink.send(message(STDIN, &piece)).await?,
                None => {
                    input = None;
                    sink.send(message(CLOSE, &[STDIN])).await?;
                }
            },
        }
    }
}

/// The next piece of input; none at its end; never if there is no input.
async fn next(input: &mut Option<Input>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

fn message(channel: u8, content: &[u8]) -> Message {
    Message::Binary([&[channel], content].concat().into())
}

fn size() -> Message {
    let (columns, rows) = terminal::size().unwrap_or((80, 24));
    let size = serde_json::json!({ "Width": columns, "Height": rows });
    message(RESIZE, size.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    type Daemon = WebSocketStream<UnixStream>;

    async fn session() -> (Session, Daemon) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = WebSocketStream::from_raw_socket(Either::Left(ours), Role::Client, None).await;
        (Session { socket }, WebSocketStream::from_raw_socket(theirs, Role::Server, None).await)
    }

    fn ends(input: Option<Input>, tty: bool) -> Ends<Vec<u8>, Vec<u8>> {
        Ends { input, output: Vec::new(), errors: Vec::new(), tty }
    }

    /// What comes until the client closes, which it has to do in order.
    async fn until_closed(daemon: &mut Daemon) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        while let Some(message) = daemon.next().await {
            match message.expect("no end without a closing handshake") {
                Message::Binary(bytes) => seen.push(bytes.to_vec()),
                Message::Close(_) => {}
                other => panic!("{other:?}"),
            }
        }
        seen
    }

    #[tokio::test]
    async fn connection_is_closed_in_order_when_the_process_ends() {
        let (session, mut daemon) = session().await;
        let status = br#"{"metadata":{},"status":"Success"}"#;
        let serve = async {
            daemon.send(message(ERROR, status)).await.unwrap();
            daemon.send(Message::Close(None)).await.unwrap();
            until_closed(&mut daemon).await
        };
        let (end, seen) = tokio::join!(session.carry(ends(None, false)), serve);
        assert_eq!(end.unwrap(), End::Told(Outcome::Exited(0)));
        assert!(seen.is_empty());
    }

    #[tokio::test]
    async fn user_who_leaves_closes_the_connection_in_order() {
        let (session, mut daemon) = session().await;
        let input = Input::of(&b"ls\n\x10\x11"[..]);
        let (end, seen) =
            tokio::join!(session.carry(ends(Some(input), true)), until_closed(&mut daemon));
        assert_eq!(end.unwrap(), End::Detached);
        assert!(seen[0].starts_with(&[RESIZE]), "the size comes first");
        assert_eq!(seen[1], b"\0ls\n");
    }
}
