//! One container's outputs.

use std::io;
use std::path::Path;
use std::sync::Arc;

use logs::attached::Attached;
use logs::records::Stream;
use logs::{Drain, Flow, Log, LogSink};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::words::Outputs;

/// Bytes that are copied at a time: a quarter of a fifo's capacity.
const BUFFER: usize = 16 << 10;

/// The outputs and who is attached to them. The drop lets go of them.
#[derive(Debug)]
pub(crate) struct Container {
    log: Option<Arc<Log>>,
    attached: [Attached; 2],
    flow: watch::Receiver<Flow>,
    _copies: JoinSet<()>,
    clients: JoinSet<()>,
}

impl Container {
    /// Opens all and begins to copy.
    ///
    /// # Errors
    /// What the kernel answered, with the path.
    pub(crate) async fn open(outputs: &Outputs) -> io::Result<Self> {
        let log = match &outputs.log {
            Some(path) => Some(Log::open(path).await.map_err(|error| at(path, &error))?),
            None => None,
        };
        let attached: [Attached; 2] = Default::default();
        let (flow, watched) = watch::channel(Flow::default());
        let mut copies = JoinSet::new();
        let streams = [(&outputs.stdout, Stream::Stdout), (&outputs.stderr, Stream::Stderr)];
        for ((path, stream), attached) in streams.into_iter().zip(&attached) {
            let Some(path) = path else {
                attached.end();
                continue;
            };
            let fifo = pipe::OpenOptions::new().open_receiver(path);
            let fifo = fifo.map_err(|error| at(path, &error))?;
            let sink = log.clone().map(|log| LogSink::new(log, stream, outputs.longest));
            flow.send_modify(|flow| flow.open += 1);
            copies.spawn(copy(fifo, sink, attached.clone(), flow.clone()));
        }
        Ok(Self { log, attached, flow: watched, _copies: copies, clients: JoinSet::new() })
    }

    /// The log.
    pub(crate) fn log(&self) -> Option<Arc<Log>> {
        self.log.clone()
    }

    /// What tells when all is written.
    pub(crate) fn drain(&self) -> Drain {
        Drain::new(self.flow.clone())
    }

    /// Attaches a client to an output.
    ///
    /// # Errors
    /// That nobody reads the fifo, or that too many are attached.
    pub(crate) fn attach(&mut self, stream: Stream, path: &Path) -> io::Result<()> {
        let fifo = pipe::OpenOptions::new().open_sender(path);
        let fifo = fifo.map_err(|error| at(path, &error))?;
        let [stdout, stderr] = &self.attached;
        let output = if stream == Stream::Stdout { stdout } else { stderr };
        self.clients.spawn(output.add(fifo).map_err(io::Error::other)?);
        // Those that have gone are forgotten.
        while self.clients.try_join_next().is_some() {}
        Ok(())
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Copies an output to its end, which comes when its shim has closed the fifo.
async fn copy(
    mut fifo: pipe::Receiver,
    mut log: Option<LogSink>,
    attached: Attached,
    flow: watch::Sender<Flow>,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match fifo.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                log::warn!("reading an output: {error}");
                break;
            }
        };
        attached.offer(&buffer[..count]);
        if let Some(log) = &mut log {
            log.write(&buffer[..count]).await;
        }
        flow.send_modify(|flow| flow.bytes = flow.bytes.wrapping_add(count));
    }
    attached.end();
    if let Some(log) = log {
        log.end().await;
    }
    flow.send_modify(|flow| flow.open -= 1);
}
