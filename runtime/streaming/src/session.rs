//! What a client may come for: a request, and the caller's code that does it.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;
use crate::streams::Streams;

/// Most ports of one session: a WebSocket has two channels for each, numbered by a byte.
const MOST_PORTS: usize = 127;

/// A connection to a port.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Runs a process; its exit code, or why there is none.
pub(crate) type Run = Box<dyn FnOnce(Streams) -> BoxFuture<'static, Result<u32, String>> + Send>;

/// Connects to a port, or says why not.
pub(crate) type Connect =
    Arc<dyn Fn(u16) -> BoxFuture<'static, Result<Box<dyn Duplex>, String>> + Send + Sync>;

/// Which streams of a process a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; not with a terminal.
    pub stderr: bool,
    /// Whether the process has a terminal, whose size changes.
    pub terminal: bool,
}

impl Wanted {
    /// Whether these go together.
    ///
    /// # Errors
    /// [`Error::TerminalWithStderr`] and [`Error::NoStreams`].
    pub fn check(self) -> Result<Self, Error> {
        match self {
            Self { terminal: true, stderr: true, .. } => Err(Error::TerminalWithStderr),
            Self { stdin: false, stdout: false, stderr: false, .. } => Err(Error::NoStreams),
            _ => Ok(self),
        }
    }
}

/// Which of the two calls a session is for, for its path and its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Exec,
    Attach,
}

pub(crate) struct RemoteCommand {
    pub(crate) verb: Verb,
    pub(crate) wanted: Wanted,
    pub(crate) run: Run,
}

#[derive(Clone)]
pub(crate) struct PortForward {
    pub(crate) pod: String,
    pub(crate) ports: Vec<u16>,
    pub(crate) connect: Connect,
}

pub(crate) enum Request {
    RemoteCommand(RemoteCommand),
    PortForward(PortForward),
}

/// What a client may come for. [`crate::Server::url`] gives it an address.
pub struct Session {
    pub(crate) request: Request,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Session").field(&self.path()).finish()
    }
}

impl Session {
    /// The execution of a command, by `run`. It starts when the client's streams are there.
    ///
    /// `run` gets them, and returns the exit code once all output is written. When the client has
    /// gone, input ends and output fails; [`crate::Limits::detach`] later the future is dropped.
    ///
    /// # Errors
    /// [`Error::TerminalWithStderr`] and [`Error::NoStreams`].
    pub fn exec<F, R>(wanted: Wanted, run: F) -> Result<Self, Error>
    where
        F: FnOnce(Streams) -> R + Send + 'static,
        R: Future<Output = Result<u32, String>> + Send + 'static,
    {
        Self::remote_command(Verb::Exec, wanted, run)
    }

    /// The streams of a process that runs, by `run`, as with [`Session::exec`]. Clients expect
    /// the code 0 whatever the process returned.
    ///
    /// # Errors
    /// [`Error::TerminalWithStderr`] and [`Error::NoStreams`].
    pub fn attach<F, R>(wanted: Wanted, run: F) -> Result<Self, Error>
    where
        F: FnOnce(Streams) -> R + Send + 'static,
        R: Future<Output = Result<u32, String>> + Send + 'static,
    {
        Self::remote_command(Verb::Attach, wanted, run)
    }

    fn remote_command<F, R>(verb: Verb, wanted: Wanted, run: F) -> Result<Self, Error>
    where
        F: FnOnce(Streams) -> R + Send + 'static,
        R: Future<Output = Result<u32, String>> + Send + 'static,
    {
        let wanted = wanted.check()?;
        let run: Run = Box::new(|streams| run(streams).boxed());
        Ok(Self { request: Request::RemoteCommand(RemoteCommand { verb, wanted, run }) })
    }

    /// Connections to ports of a pod, by `connect`. `pod` is named in errors. `ports` are for
    /// clients that speak channels over a WebSocket; others, and those if there are none, name
    /// ports themselves.
    ///
    /// # Errors
    /// [`Error::TooManyPorts`].
    pub fn port_forward<F, R, S>(
        pod: impl Into<String>,
        ports: Vec<u16>,
        connect: F,
    ) -> Result<Self, Error>
    where
        F: Fn(u16) -> R + Send + Sync + 'static,
        R: Future<Output = Result<S, String>> + Send + 'static,
        S: Duplex + 'static,
    {
        if ports.len() > MOST_PORTS {
            return Err(Error::TooManyPorts(ports.len()));
        }
        let connect: Connect = Arc::new(move |port| {
            let connected = connect(port);
            async move { connected.await.map(|stream| Box::new(stream) as Box<dyn Duplex>) }.boxed()
        });
        Ok(Self { request: Request::PortForward(PortForward { pod: pod.into(), ports, connect }) })
    }

    /// The first part of the address's path.
    pub(crate) fn path(&self) -> &'static str {
        match &self.request {
            Request::RemoteCommand(RemoteCommand { verb: Verb::Exec, .. }) => "exec",
            Request::RemoteCommand(_) => "attach",
            Request::PortForward(_) => "portforward",
        }
    }
}
