//! One connection: the task that reads frames and feeds streams, and the task that writes.
//!
//! The reader owns what the client's frames change: the headers' compression, and each stream's
//! buffer. Answers that it owes go through a queue of their own, ahead of content. It never waits
//! for room there: a client that makes it overflow, without reading, is hung up on.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, duplex,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::frame::{self, BadFrame, Control, Head, Reason};
use super::headers::{BadHeaders, Deflater, Headers, Inflater};
use crate::carrier::{Carrier, Outgoing, Signals, queue};
use crate::limits::Limits;
use crate::streams::{Input, Output};

/// Answers that wait for the client.
const ANSWERS: usize = 2048;
/// Bytes that are read at once.
const PIECE: usize = 32 << 10;

/// A stream that the client opened.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// The client ended it in both directions, or has gone.
    pub(crate) reset: CancellationToken,
}

/// A connection of a client, and the streams that it opens.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) carrier: Carrier,
    pub(crate) opened: mpsc::Receiver<Stream>,
}

/// Answers of the reader.
#[derive(Debug)]
enum Answer {
    Reply(u32),
    Reset(u32, Reason),
    Ping(u32),
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Frame(#[from] BadFrame),
    #[error("{0}")]
    Headers(#[from] BadHeaders),
    #[error("the client does not read what it is answered")]
    Flood,
    #[error("{0}")]
    Closed(#[from] io::Error),
}

/// Serves `socket`. Streams whose headers `accepts` refuses are reset.
pub(crate) fn serve<S>(socket: S, limits: &Limits, accepts: fn(&Headers) -> bool) -> Connection
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (input, output) = tokio::io::split(socket);
    let (queue, items) = queue();
    let (answer, answers) = mpsc::channel(ANSWERS);
    let (open, opened) = mpsc::channel(limits.streams.max(1));
    let signals = Signals::new();
    let reader = Reader {
        input: BufReader::with_capacity(PIECE, input),
        inflater: Inflater::new(),
        streams: HashMap::new(),
        highest: 0,
        slots: Arc::new(Semaphore::new(limits.streams)),
        most: limits.streams,
        buffer: limits.stream,
        queue: queue.clone(),
        answer,
        open,
        accepts,
        signals: signals.clone(),
    };
    let writer = write(output, items, answers, signals.clone());
    let carrier = Carrier::start(signals, queue, limits.idle, reader.run(), writer);
    Connection { carrier, opened }
}

/// What the reader knows of a stream.
struct Incoming {
    /// Where content goes; none after the client's end.
    pipe: Option<DuplexStream>,
    reset: CancellationToken,
    /// Whether somebody still holds the stream.
    held: Weak<OwnedSemaphorePermit>,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.reset.cancel();
    }
}

struct Reader<R> {
    input: BufReader<R>,
    inflater: Inflater,
    streams: HashMap<u32, Incoming>,
    highest: u32,
    slots: Arc<Semaphore>,
    most: usize,
    buffer: usize,
    queue: mpsc::Sender<Outgoing>,
    answer: mpsc::Sender<Answer>,
    open: mpsc::Sender<Stream>,
    accepts: fn(&Headers) -> bool,
    signals: Signals,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn run(mut self) {
        match self.frames().await {
            Err(Broken::Closed(error)) => log::debug!("streaming: a client has gone: {error}"),
            Err(error) => log::warn!("streaming: a SPDY client is hung up on: {error}"),
            Ok(()) => log::debug!("streaming: a SPDY client said goodbye"),
        }
    }

    /// Reads frames until the client says goodbye.
    async fn frames(&mut self) -> Result<(), Broken> {
        let mut content = Vec::new();
        loop {
            let mut header = [0; frame::HEADER];
            self.input.read_exact(&mut header).await?;
            self.signals.activity.touch();
            match frame::head(header)? {
                Head::Data { stream, last, length } => self.data(stream, last, length).await?,
                Head::Control { kind, last, length } => {
                    content.resize(length, 0);
                    self.input.read_exact(&mut content).await?;
                    match frame::control(kind, last, &content)? {
                        Control::GoAway => return Ok(()),
                        control => self.control(control)?,
                    }
                }
            }
        }
    }

    fn control(&mut self, control: Control<'_>) -> Result<(), Broken> {
        match control {
            Control::SynStream { stream, last, block } => {
                let headers = self.inflater.read(block)?;
                self.open(stream, last, headers)
            }
            Control::Headers { stream, last, block } => {
                // They change the compression's state, and nothing else.
                self.inflater.read(block)?;
                if last {
                    self.finish(stream);
                }
                Ok(())
            }
            Control::Reset { stream } => {
                self.streams.remove(&stream);
                Ok(())
            }
            // Those of the server have even numbers, and it sends none.
            Control::Ping { id } if id % 2 == 1 => self.answer(Answer::Ping(id)),
            Control::Ping { .. } | Control::GoAway | Control::Other => Ok(()),
        }
    }

    fn answer(&self, answer: Answer) -> Result<(), Broken> {
        match self.answer.try_send(answer) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Broken::Flood),
            // The session has said its end.
            Err(mpsc::error::TrySendError::Closed(_)) | Ok(()) => Ok(()),
        }
    }

    fn open(&mut self, id: u32, last: bool, headers: Headers) -> Result<(), Broken> {
        if id.is_multiple_of(2) || id <= self.highest {
            return self.answer(Answer::Reset(id, Reason::ProtocolError));
        }
        self.highest = id;
        if self.streams.len() >= self.most {
            self.streams.retain(|_, stream| stream.held.strong_count() > 0);
        }
        let wanted = !self.signals.deaf.is_cancelled() && (self.accepts)(&headers);
        let (place, slot) = (self.open.try_reserve(), self.slots.clone().try_acquire_owned());
        let (true, Ok(place), Ok(slot)) = (wanted, place, slot) else {
            return self.answer(Answer::Reset(id, Reason::RefusedStream));
        };
        // First the reply: a client throws away content that comes before.
        self.answer(Answer::Reply(id))?;
        let slot = Arc::new(slot);
        let (pipe, end) = duplex(self.buffer);
        let reset = CancellationToken::new();
        let held = Arc::downgrade(&slot);
        let pipe = (!last).then_some(pipe);
        self.streams.insert(id, Incoming { pipe, reset: reset.clone(), held });
        let output = Output::new(&self.queue, id, Some(slot.clone()));
        let input = Input::new(end, &self.signals.deaf, Some(slot));
        place.send(Stream { id, headers, input, output, reset });
        Ok(())
    }

    fn finish(&mut self, stream: u32) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.pipe = None;
        }
    }

    /// Hands on content as it comes, and waits while its stream has no room.
    async fn data(&mut self, stream: u32, last: bool, mut left: usize) -> Result<(), Broken> {
        let mut piece = vec![0; left.min(PIECE)];
        while left > 0 {
            let part = &mut piece[..left.min(PIECE)];
            let count = self.input.read(part).await?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            left -= count;
            self.signals.activity.touch();
            let incoming = self.streams.get_mut(&stream);
            let Some(pipe) = incoming.and_then(|stream| stream.pipe.as_mut()) else { continue };
            let write = pipe.write_all(&part[..count]);
            let written = self.signals.deaf.run_until_cancelled(write).await;
            if !matches!(written, Some(Ok(()))) {
                // Nobody reads any more: what comes is thrown away.
                self.finish(stream);
            }
        }
        if last {
            self.finish(stream);
        }
        Ok(())
    }
}

/// Writes answers and content until the session's end.
async fn write<W: AsyncWrite + Unpin>(
    mut output: W,
    mut items: mpsc::Receiver<Outgoing>,
    mut answers: mpsc::Receiver<Answer>,
    signals: Signals,
) -> io::Result<()> {
    let mut deflater = Deflater::new().map_err(io::Error::other)?;
    let mut last = 0;
    loop {
        let frame = tokio::select! {
            biased;
            Some(answer) = answers.recv() => match answer {
                Answer::Ping(id) => frame::ping(id),
                Answer::Reset(stream, reason) => frame::reset(stream, reason),
                Answer::Reply(stream) => {
                    last = stream;
                    let block = deflater.write(&Headers::default()).map_err(io::Error::other)?;
                    frame::reply(stream, &block)
                }
            },
            item = items.recv() => match item {
                Some(Outgoing::Data { stream, mut bytes }) => {
                    frame::fill_data(&mut bytes, stream, false);
                    bytes
                }
                Some(Outgoing::Finish(stream)) => {
                    let mut bytes = vec![0; frame::HEADER];
                    frame::fill_data(&mut bytes, stream, true);
                    bytes
                }
                Some(Outgoing::Reset(stream)) => frame::reset(stream, Reason::Cancel),
                Some(Outgoing::End) | None => break,
            },
        };
        output.write_all(&frame).await?;
        signals.activity.touch();
        if items.is_empty() && answers.is_empty() {
            output.flush().await?;
        }
    }
    output.write_all(&frame::go_away(last)).await?;
    output.flush().await?;
    output.shutdown().await
}
