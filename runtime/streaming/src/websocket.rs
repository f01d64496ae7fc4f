//! Channels over a WebSocket: the first byte of a message is its channel. In the variant
//! `base64`, a message is text: the channel's digit, and the content in base64.
//!
//! Only version 5 has a half-close, and only from the client: the byte 255 and a channel. The
//! other use of a WebSocket is [`tunnel`], which carries SPDY.

use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::stream::{SplitSink, SplitStream};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::carrier::{Carrier, HEADROOM, Outgoing, Signals, queue};
use crate::limits::Limits;
use crate::streams::Input;

/// The first byte of a message that closes a channel.
const CLOSE: u8 = 255;
/// While input waits for the process, the client's pings wait too. `client-go` hangs up after 61
/// seconds without a pong, so it gets some unasked.
const PONG: Duration = Duration::from_secs(15);

/// How messages carry channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coding {
    /// Messages are text in base64.
    pub(crate) base64: bool,
    /// The client can close a channel.
    pub(crate) close: bool,
}

/// A connection whose channels are numbered as [`Channels::inputs`] are.
pub(crate) struct Channels {
    pub(crate) carrier: Carrier,
    /// Input of each channel that can have some.
    pub(crate) inputs: Vec<Option<Input>>,
}

async fn accept<S>(socket: S, limits: &Limits) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits.message))
        .max_frame_size(Some(limits.message))
        // Each message goes out by itself: the queue before it is what bounds memory.
        .write_buffer_size(0);
    WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await
}

/// Serves `socket`, with a channel for each of `inputs`; true for those that take content.
pub(crate) async fn channels<S>(
    socket: S,
    limits: &Limits,
    coding: Coding,
    inputs: &[bool],
) -> Channels
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, stream) = accept(socket, limits).await.split();
    let (queue, items) = queue();
    let (pong, pongs) = mpsc::channel(1);
    let signals = Signals::new();
    let mut pipes = Vec::new();
    let mut ends = Vec::new();
    for takes in inputs {
        let (pipe, end) = duplex(limits.stream);
        pipes.push(takes.then_some(pipe));
        ends.push(takes.then(|| Input::new(end, &signals.deaf, None)));
    }
    let reader = Reader { stream, pipes, coding, pong, signals: signals.clone() };
    let writer = write(sink, items, pongs, coding, signals.clone());
    let carrier = Carrier::start(signals, queue, limits.idle, reader.run(), writer);
    Channels { carrier, inputs: ends }
}

struct Reader<S> {
    stream: SplitStream<WebSocketStream<S>>,
    pipes: Vec<Option<DuplexStream>>,
    coding: Coding,
    pong: mpsc::Sender<()>,
    signals: Signals,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    async fn run(mut self) {
        while let Some(message) = self.stream.next().await {
            self.signals.activity.touch();
            let more = match message {
                Ok(Message::Binary(content)) => self.message(&content).await,
                Ok(Message::Text(content)) => self.message(content.as_bytes()).await,
                // The library answers both.
                Ok(_) => true,
                Err(error) => {
                    hung_up(&error);
                    false
                }
            };
            if !more {
                return;
            }
        }
    }

    /// Whether more may come.
    async fn message(&mut self, message: &[u8]) -> bool {
        let Some((first, content)) = message.split_first() else { return true };
        if self.coding.close && *first == CLOSE {
            let channel = content.first().and_then(|to| self.pipes.get_mut(usize::from(*to)));
            let (Some(channel), 1) = (channel, content.len()) else {
                log::warn!("streaming: a WebSocket client closes a channel that is not there");
                return false;
            };
            *channel = None;
            return true;
        }
        if !self.coding.base64 {
            self.content(*first, content).await;
        } else if let Ok(content) = BASE64_STANDARD.decode(content) {
            self.content(first.wrapping_sub(b'0'), &content).await;
        }
        true
    }

    /// Hands on content, and waits while there is no room. What nobody takes is thrown away.
    async fn content(&mut self, channel: u8, content: &[u8]) {
        let Some(place) = self.pipes.get_mut(usize::from(channel)) else { return };
        let Some(pipe) = place else { return };
        let write = self.signals.deaf.run_until_cancelled(pipe.write_all(content));
        if !matches!(with_pongs(write, &self.pong).await, Some(Ok(()))) {
            *place = None;
        }
    }
}

/// Waits for `work`, and sends a pong from time to time.
async fn with_pongs<T>(work: impl Future<Output = T>, pong: &mpsc::Sender<()>) -> T {
    tokio::pin!(work);
    loop {
        match timeout(PONG, &mut work).await {
            Ok(done) => return done,
            // One that waits already is enough.
            Err(_) => drop(pong.try_send(())),
        }
    }
}

fn hung_up(error: &Error) {
    match error {
        // As `kubectl` goes when it is interrupted.
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            log::debug!("streaming: a WebSocket client has gone without a word");
        }
        Error::Capacity(_) | Error::Protocol(_) | Error::Utf8(_) => {
            log::warn!("streaming: a WebSocket client is hung up on: {error}");
        }
        _ => log::debug!("streaming: a WebSocket client has gone: {error}"),
    }
}

fn encode(channel: u32, bytes: Vec<u8>, coding: Coding) -> Message {
    // Sessions number their channels from 0 to 253.
    let channel = u8::try_from(channel).unwrap_or(CLOSE);
    if coding.base64 {
        let mut text = String::from(char::from(b'0'.wrapping_add(channel)));
        BASE64_STANDARD.encode_string(bytes.get(HEADROOM..).unwrap_or_default(), &mut text);
        return Message::text(text);
    }
    let mut bytes = bytes;
    if let Some(before) = bytes.get_mut(HEADROOM - 1) {
        *before = channel;
    }
    Message::Binary(Bytes::from(bytes).slice(HEADROOM - 1..))
}

/// Writes messages until the session's end, and says it.
async fn write<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut items: mpsc::Receiver<Outgoing>,
    mut pongs: mpsc::Receiver<()>,
    coding: Coding,
    signals: Signals,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = tokio::select! {
            biased;
            Some(()) = pongs.recv() => Message::Pong(Bytes::new()),
            item = items.recv() => match item {
                Some(Outgoing::Data { stream, bytes }) => encode(stream, bytes, coding),
                // Channels have no end of their own.
                Some(Outgoing::Finish(_) | Outgoing::Reset(_)) => continue,
                Some(Outgoing::End) | None => break,
            },
        };
        sink.send(message).await.map_err(io::Error::other)?;
        signals.activity.touch();
    }
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    sink.send(Message::Close(Some(normal))).await.map_err(io::Error::other)
}

/// A connection inside of a WebSocket: the content of its messages, one behind the other.
pub(crate) async fn tunnel<S>(
    socket: S,
    limits: &Limits,
) -> impl AsyncRead + AsyncWrite + Send + 'static
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, stream) = accept(socket, limits).await.split();
    tokio::io::join(StreamReader::new(contents(stream)), SinkWriter::new(messages(sink)))
}

/// What messages contain, to the end of the connection.
fn contents(
    stream: impl Stream<Item = Result<Message, Error>> + Send + Unpin + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    Box::pin(stream.filter_map(async |message| match message {
        Ok(Message::Binary(content)) => Some(Ok(content)),
        Ok(_) => None,
        Err(error) => {
            hung_up(&error);
            Some(Err(io::Error::other(error)))
        }
    }))
}

/// Makes a message of each piece.
fn messages(
    sink: impl Sink<Message, Error = Error> + Send + Unpin + 'static,
) -> impl for<'a> Sink<&'a [u8], Error = io::Error> + Send + Unpin + 'static {
    CopyToBytes::new(Box::pin(
        sink.sink_map_err(io::Error::other)
            .with(async |content: Bytes| Ok::<_, io::Error>(Message::Binary(content))),
    ))
}
