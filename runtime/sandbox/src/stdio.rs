//! A process's streams: fifos, files or loggers of the host on one side, vsock connections to
//! the guest on the other, and a fixed buffer between them. A slow reader slows the process;
//! nothing is dropped and nothing grows. See [`target`] for the forms a path can take.
//!
//! The fifos' ends are held so that a client that goes away and comes back (containerd's
//! restart) loses nothing: each output fifo is also open for reading here, and the input fifo
//! for writing, until the caller says that no more input comes.

pub mod copy;
pub mod logger;
pub mod target;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::container::StdioPaths;
use crate::guest::Guest;
use crate::{ContainerId, Error, Namespace};
use copy::{Flow, Sink};
use target::Output;

/// How long after a process's end its output may stand still before its end is told all the
/// same. Copying goes on even then, until the process is deleted.
const STALLED: Duration = Duration::from_secs(10);

/// Numbers of a process's streams on the vsock; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamIds {
    /// Input.
    pub stdin: u64,
    /// Output, or both outputs with a terminal.
    pub stdout: u64,
    /// Error output.
    pub stderr: u64,
}

/// The running copies of one process. Dropping it ends them.
#[derive(Debug)]
pub struct Streams {
    input: JoinSet<()>,
    /// Keeps the input fifo from ending while clients come and go.
    keeper: Option<OwnedFd>,
    outputs: JoinSet<()>,
    flow: watch::Receiver<Flow>,
}

/// Whose streams they are, for loggers.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The sandbox's namespace.
    pub namespace: Namespace,
    /// The container.
    pub container: ContainerId,
}

impl Streams {
    /// No streams at all.
    pub fn none() -> Self {
        let (_, flow) = watch::channel(Flow::default());
        Self { input: JoinSet::new(), keeper: None, outputs: JoinSet::new(), flow }
    }

    /// Opens the host's ends, connects the guest's ends and starts copying.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that can't be used; [`Error::Failed`] otherwise.
    pub async fn connect(
        paths: &StdioPaths,
        owner: &Owner,
        guest: &Guest,
    ) -> Result<(Self, StreamIds), Error> {
        let mut ids = StreamIds::default();
        let (flow_tx, flow) = watch::channel(Flow::default());
        let mut streams =
            Self { input: JoinSet::new(), keeper: None, outputs: JoinSet::new(), flow };
        let (stdout, stderr) = openoutputs(paths, owner).await?;
        if !paths.stdin.is_empty() {
            let (fifo, keeper) = open_input(Path::new(target::path_of(&paths.stdin)))
                .map_err(|e| Error::failed(&format!("opening stdin {:?}", paths.stdin), &e))?;
            ids.stdin = guest.next_stream();
            let stream = guest.stream(ids.stdin).await?;
            streams.keeper = Some(keeper);
            streams.input.spawn(copy::input(fifo, stream));
        }
        for (sink, id) in [(stdout, &mut ids.stdout), (stderr, &mut ids.stderr)] {
            let Some(sink) = sink else { continue };
            *id = guest.next_stream();
            let stream = guest.stream(*id).await?;
            flow_tx.send_modify(|flow| flow.open += 1);
            streams.outputs.spawn(copy::output(stream, sink, flow_tx.clone()));
        }
        Ok((streams, ids))
    }

    /// No more input comes: what is in the fifo is still delivered, then the process sees the
    /// end, once other writers have closed it as well.
    pub fn close_input(&mut self) {
        self.keeper = None;
    }

    /// The process is gone: input has nowhere to go.
    pub fn stop_input(&mut self) {
        self.keeper = None;
        self.input.abort_all();
    }

    /// What tells when all output has been delivered.
    pub fn drain(&self) -> Drain {
        Drain(self.flow.clone())
    }
}

/// Waits for a process's output.
#[derive(Debug)]
pub struct Drain(watch::Receiver<Flow>);

impl Drain {
    /// Returns when all output was written, or has not moved for ten seconds.
    pub async fn done(mut self) {
        while self.0.borrow_and_update().open > 0 {
            match tokio::time::timeout(STALLED, self.0.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    log::warn!("nobody reads a process's output; its end is told without it");
                    return;
                }
            }
        }
    }
}

fn open_input(path: &Path) -> io::Result<(pipe::Receiver, OwnedFd)> {
    let keeper = pipe::OpenOptions::new().read_write(true).open_sender(path)?;
    let fifo = pipe::OpenOptions::new().open_receiver(path)?;
    Ok((fifo, keeper.into_nonblocking_fd()?))
}

async fn openoutputs(
    paths: &StdioPaths,
    owner: &Owner,
) -> Result<(Option<Sink>, Option<Sink>), Error> {
    let failed =
        |path: &str, error: io::Error| Error::failed(&format!("opening output {path:?}"), &error);
    // The form is that of stdout: a logger or a file takes both streams.
    match Output::parse(&paths.stdout)? {
        Output::Logger { binary, arguments, wait_byte } => {
            let logger = logger::Logger { binary, arguments, wait_byte };
            let (stdout, stderr) = logger.start(owner).await?;
            Ok((Some(Sink::Pipe(stdout)), (!paths.terminal).then_some(Sink::Pipe(stderr))))
        }
        Output::File(path) => {
            let open = || copy::append(&path).map_err(|error| failed(&paths.stdout, error));
            let stderr = if paths.terminal { None } else { Some(Sink::File(open()?)) };
            Ok((Some(Sink::File(open()?)), stderr))
        }
        Output::None | Output::Fifo(_) => {
            let open = |path: &str| match Output::parse(path)? {
                Output::Fifo(fifo) => {
                    let sink = pipe::OpenOptions::new().read_write(true).open_sender(fifo);
                    Ok(Some(Sink::Pipe(sink.map_err(|error| failed(path, error))?)))
                }
                Output::None => Ok(None),
                _ => Err(Error::Invalid(format!("stderr {path:?} must be a fifo as stdout is"))),
            };
            let stderr = if paths.terminal { None } else { open(&paths.stderr)? };
            Ok((open(&paths.stdout)?, stderr))
        }
    }
}
