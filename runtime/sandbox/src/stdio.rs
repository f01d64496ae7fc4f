//! A process's streams. On one side are fifos, files, logs or loggers of the host, on the other
//! vsock connections to the guest. A fixed buffer lies between them. A slow reader slows the
//! process; nothing is dropped and nothing grows. See [`target`] for the forms a path can take.
//! Clients that are attached to a process only look on ([`attached`]).
//!
//! A client that goes away and comes back (containerd's restart) loses nothing, because the fifos'
//! ends are held here. Each output fifo is also open for reading. The input fifo is also open for
//! writing, until the caller says that no more input comes.

pub mod copy;
pub mod logger;
pub mod target;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::request::StdioPaths;
use api::{ContainerId, Error, Namespace};
use logs::attached::Attached;
use logs::records::Stream;
use logs::{Flow, Log, LogSink};
use machine::guest::{Guest, StreamIds};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;

use copy::Sink;
use target::Output;

pub use logs::Drain;

/// The running copies of one process. Dropping it ends them.
#[derive(Debug)]
pub struct Streams {
    /// Input that waits for its process's start.
    waiting: Option<(PathBuf, UnixStream)>,
    input: JoinSet<()>,
    /// The caller has said that no more input comes.
    input_closed: bool,
    /// Keeps the input fifo from ending while clients come and go.
    keeper: Option<OwnedFd>,
    outputs: JoinSet<()>,
    /// Clients of stdout and stderr, and what feeds them.
    attached: [Attached; 2],
    clients: JoinSet<()>,
    /// The log that both outputs go to.
    log: Option<Arc<Log>>,
    /// Outputs that nothing is written to, open as long as their process runs.
    silent: Vec<Sink>,
    flow: watch::Receiver<Flow>,
    /// Says that the process is being deleted.
    last_call: watch::Sender<bool>,
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
        Self::new(flow)
    }

    fn new(flow: watch::Receiver<Flow>) -> Self {
        Self {
            waiting: None,
            input: JoinSet::new(),
            input_closed: false,
            keeper: None,
            outputs: JoinSet::new(),
            attached: Default::default(),
            clients: JoinSet::new(),
            log: None,
            silent: Vec::new(),
            flow,
            last_call: watch::Sender::new(false),
        }
    }

    /// Opens the host's outputs for a process that never writes.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn silent(paths: &StdioPaths, owner: &Owner) -> Result<Self, Error> {
        let Outputs { sinks, log } = Outputs::open(paths, owner).await?;
        let mut streams = Self::none();
        streams.silent.extend(sinks.into_iter().flatten());
        streams.log = log;
        Ok(streams)
    }

    /// Connects the guest's ends, opens the host's outputs and starts copying them.
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
        let mut streams = Self::new(flow);
        let Outputs { sinks, log } = Outputs::open(paths, owner).await?;
        streams.log = log;
        if !paths.stdin.is_empty() {
            let path = target::path_of(&paths.stdin).into();
            ids.stdin = guest.next_stream();
            streams.waiting = Some((path, guest.stream(ids.stdin).await?));
        }
        let outputs = sinks.into_iter().zip(&streams.attached);
        for ((sink, attached), id) in outputs.zip([&mut ids.stdout, &mut ids.stderr]) {
            let Some(sink) = sink else {
                attached.end();
                continue;
            };
            *id = guest.next_stream();
            let stream = guest.stream(*id).await?;
            flow_tx.send_modify(|flow| flow.open += 1);
            let last_call = streams.last_call.subscribe();
            let to = (sink, attached.clone());
            streams.outputs.spawn(copy::output(stream, to, flow_tx.clone(), last_call));
        }
        Ok((streams, ids))
    }

    /// Starts to copy the input, at the process's start and not before: clients take their fifo's
    /// opening for a sign that they may tell the end of input (ctr misses it otherwise).
    ///
    /// # Errors
    /// [`Error::Failed`] when the fifo can't be opened.
    pub fn start_input(&mut self) -> Result<(), Error> {
        let Some((path, stream)) = self.waiting.take() else { return Ok(()) };
        let (fifo, keeper) = open_input(&path)
            .map_err(|error| Error::failed(&format!("opening stdin {}", path.display()), &error))?;
        self.keeper = Some(keeper).filter(|_| !self.input_closed);
        self.input.spawn(copy::input(fifo, stream));
        Ok(())
    }

    /// No more input comes: what is in the fifo is still delivered, then the process sees the
    /// end, once other writers have closed it as well.
    pub fn close_input(&mut self) {
        self.input_closed = true;
        self.keeper = None;
    }

    /// The log that the outputs go to, if they go to one.
    pub fn log(&self) -> Option<Arc<Log>> {
        self.log.clone()
    }

    /// Attaches a client that reads from fifos, either of which may be missing. It is told the end
    /// of the outputs by their end.
    ///
    /// # Errors
    /// [`Error::Invalid`] when nobody reads a fifo or it is none; [`Error::State`] when too many
    /// are attached.
    pub fn attach(&mut self, paths: &StdioPaths) -> Result<(), Error> {
        for (path, attached) in [&paths.stdout, &paths.stderr].into_iter().zip(&self.attached) {
            if path.is_empty() {
                continue;
            }
            let fifo = pipe::OpenOptions::new().open_sender(target::path_of(path));
            let fifo = fifo.map_err(|error| Error::Invalid(format!("fifo {path:?}: {error}")))?;
            let fed = attached.add(fifo).map_err(|error| Error::State(error.to_string()))?;
            self.clients.spawn(fed);
        }
        Ok(())
    }

    /// The process is gone: input has nowhere to go, and no output comes from nobody.
    pub fn stop(&mut self) {
        self.silent.clear();
        self.waiting = None;
        self.keeper = None;
        self.input.abort_all();
    }

    /// Takes over from streams that stood in for these until now.
    pub fn replace(&mut self, mut with: Self) {
        if self.input_closed {
            with.close_input();
        }
        *self = with;
    }

    /// The process is being deleted: output that nobody can read any more ends. Returns what tells
    /// when the rest has been delivered.
    pub fn last_call(&mut self) -> Drain {
        self.last_call.send_replace(true);
        self.drain()
    }

    /// What tells when all output has been delivered.
    pub fn drain(&self) -> Drain {
        Drain::new(self.flow.clone())
    }
}

fn open_input(path: &Path) -> io::Result<(pipe::Receiver, OwnedFd)> {
    let keeper = pipe::OpenOptions::new().read_write(true).open_sender(path)?;
    let fifo = pipe::OpenOptions::new().open_receiver(path)?;
    Ok((fifo, keeper.into_nonblocking_fd()?))
}

/// The host's ends of a process's outputs, stdout first.
struct Outputs {
    sinks: [Option<Sink>; 2],
    log: Option<Arc<Log>>,
}

impl Outputs {
    async fn open(paths: &StdioPaths, owner: &Owner) -> Result<Self, Error> {
        let failed = |path: &str, error: io::Error| {
            Error::failed(&format!("opening output {path:?}"), &error)
        };
        let mut log = None;
        // The form is that of stdout: a logger, a log or a file takes both streams.
        let [stdout, stderr] = match Output::parse(&paths.stdout)? {
            Output::Logger { binary, arguments, wait_byte } => {
                let logger = logger::Logger { binary, arguments, wait_byte };
                let (stdout, stderr) = logger.start(owner).await?;
                [stdout, stderr].map(|pipe| Some(Sink::Pipe(pipe)))
            }
            Output::File(path) => {
                let file = logs::disks::append(&path).await;
                let file = file.map_err(|error| failed(&paths.stdout, error))?;
                [file.clone(), file].map(|file| Some(Sink::File(file)))
            }
            Output::Log { path, longest } => {
                let opened =
                    Log::open(&path).await.map_err(|error| failed(&paths.stdout, error))?;
                log = Some(opened.clone());
                let sink = |stream| Some(Sink::Log(LogSink::new(opened.clone(), stream, longest)));
                [Stream::Stdout, Stream::Stderr].map(sink)
            }
            Output::Discard => [Some(Sink::Discard), Some(Sink::Discard)],
            Output::None | Output::Fifo(_) => {
                let open = |path: &str| match Output::parse(path)? {
                    Output::Fifo(fifo) => {
                        let sink = pipe::OpenOptions::new().read_write(true).open_sender(fifo);
                        Ok(Some(Sink::Fifo(sink.map_err(|error| failed(path, error))?)))
                    }
                    Output::None => Ok(None),
                    _ => {
                        Err(Error::Invalid(format!("stderr {path:?} must be a fifo as stdout is")))
                    }
                };
                let stderr = if paths.terminal { None } else { open(&paths.stderr)? };
                [open(&paths.stdout)?, stderr]
            }
        };
        Ok(Self { sinks: [stdout, stderr.filter(|_| !paths.terminal)], log })
    }
}
