//! What both protocols have: a task that reads from the client, and one that writes to it. A third
//! one ends the connection when nothing comes or goes. The session owns them through [`Carrier`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, PollSender};
use tokio_util::task::AbortOnDropHandle;

/// Bytes of output that go into one frame.
const CHUNK: usize = 32 << 10;
/// Frames of output that wait for the client.
const QUEUE: usize = 4;
/// Bytes before the content of [`Outgoing::Data`] in which a protocol writes its header.
pub(crate) const HEADROOM: usize = 8;

/// What the session sends, in order.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Content of a stream, behind [`HEADROOM`] bytes.
    Data { stream: u32, bytes: Vec<u8> },
    /// No more content of a stream comes.
    Finish(u32),
    /// A stream is over in both directions.
    Reset(u32),
    /// No more comes at all.
    End,
}

/// A place among a connection's streams, free again when both ends of a stream are dropped.
pub(crate) type Slot = Arc<OwnedSemaphorePermit>;

/// When something last came or went.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), last: Arc::default() }
    }

    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// Returns when nothing came or went for so long.
    async fn ceased(&self, idle: Duration) {
        loop {
            let end = self.last() + idle;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// What the tasks of a connection tell each other.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    /// The client has gone, or the connection is of no more use.
    pub(crate) gone: CancellationToken,
    /// Nobody wants input any more: it is thrown away.
    pub(crate) deaf: CancellationToken,
    /// When something last came or went.
    pub(crate) activity: Activity,
}

impl Signals {
    pub(crate) fn new() -> Self {
        let (gone, deaf) = (CancellationToken::new(), CancellationToken::new());
        Self { gone, deaf, activity: Activity::new() }
    }
}

/// The queue from a session to the task that writes.
pub(crate) fn queue() -> (mpsc::Sender<Outgoing>, mpsc::Receiver<Outgoing>) {
    mpsc::channel(QUEUE)
}

/// A connection's tasks. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Carrier {
    signals: Signals,
    queue: mpsc::Sender<Outgoing>,
    reader: AbortOnDropHandle<()>,
    writer: AbortOnDropHandle<()>,
    _watch: AbortOnDropHandle<()>,
}

impl Carrier {
    /// Starts the tasks. `reader` ends when nothing more can come, `writer` after
    /// [`Outgoing::End`], or with an error when nothing more can go.
    pub(crate) fn start(
        signals: Signals,
        queue: mpsc::Sender<Outgoing>,
        idle: Duration,
        reader: impl Future<Output = ()> + Send + 'static,
        writer: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Self {
        let gone = signals.gone.clone();
        let reader = tokio::spawn(async move {
            gone.run_until_cancelled(reader).await;
            gone.cancel();
        });
        let gone = signals.gone.clone();
        let writer = tokio::spawn(async move {
            if let Some(Err(error)) = gone.run_until_cancelled(writer).await {
                log::debug!("streaming: nothing more can be sent to a client: {error}");
                gone.cancel();
            }
        });
        let watched = signals.clone();
        let watch = tokio::spawn(async move {
            let ceased = watched.activity.ceased(idle);
            if watched.gone.run_until_cancelled(ceased).await.is_some() {
                log::info!("streaming: a session ends, idle for {} s", idle.as_secs());
                watched.gone.cancel();
            }
        });
        let [reader, writer, watch] = [reader, writer, watch].map(AbortOnDropHandle::new);
        Self { signals, queue, reader, writer, _watch: watch }
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Sends one item; nothing happens if the client has gone.
    pub(crate) async fn send(&self, item: Outgoing) {
        // A client that has gone needs no more.
        let _gone = self.queue.send(item).await;
    }

    /// The output of a stream.
    pub(crate) fn output(&self, stream: u32) -> Output {
        Output::new(&self.queue, stream, None)
    }

    /// Sends what waits, says the end, and gives the client so long to close the connection.
    pub(crate) async fn close(self, linger: Duration) {
        self.signals.deaf.cancel();
        self.send(Outgoing::End).await;
        // Both fail only if they are aborted, which nobody does before.
        let _ended = self.writer.await;
        let _closed = timeout(linger, self.reader).await;
    }
}

/// Output to a client: what is written is on its way to the client, in order. It fails with
/// [`io::ErrorKind::BrokenPipe`] once the client has gone, or the session is over.
#[derive(Debug)]
pub struct Output {
    queue: PollSender<Outgoing>,
    stream: u32,
    finished: Arc<AtomicBool>,
    _slot: Option<Slot>,
}

impl Output {
    pub(crate) fn new(queue: &mpsc::Sender<Outgoing>, stream: u32, slot: Option<Slot>) -> Self {
        let queue = PollSender::new(queue.clone());
        Self { queue, stream, finished: Arc::default(), _slot: slot }
    }

    /// Another writer of the same stream, with which the session ends it.
    pub(crate) fn twin(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            stream: self.stream,
            finished: self.finished.clone(),
            _slot: self._slot.clone(),
        }
    }

    /// Ends the stream in both directions.
    pub(crate) async fn reset(&mut self) {
        self.finished.store(true, Ordering::Relaxed);
        if let Some(queue) = self.queue.get_ref() {
            // A client that has gone needs no more.
            let _gone = queue.send(Outgoing::Reset(self.stream)).await;
        }
    }

    /// Sends an item once there is room.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        item: impl FnOnce(u32) -> Outgoing,
    ) -> Poll<io::Result<()>> {
        let broken = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.queue.poll_reserve(context)).map_err(broken)?;
        Poll::Ready(self.queue.send_item(item(self.stream)).map_err(broken))
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.finished.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let part = &bytes[..bytes.len().min(CHUNK)];
        ready!(self.poll_send(context, |stream| Outgoing::Data { stream, bytes: framed(part) }))?;
        Poll::Ready(Ok(part.len()))
    }

    /// There is nothing to do: the connection's task writes as soon as it can.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Tells the client that no more comes.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(context, Outgoing::Finish))?;
        self.finished.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

/// Content with room for a header before it.
pub(crate) fn framed(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADROOM + content.len());
    bytes.resize(HEADROOM, 0);
    bytes.extend_from_slice(content);
    bytes
}
