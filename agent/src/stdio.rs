//! Standard streams of processes: connections of the host on one side, pipes or a terminal on
//! the other.

mod copy;
mod pairing;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

pub(crate) use copy::{Endpoint, ExitWatch, endpoint};
pub(crate) use pairing::{StreamError, Streams};

use crate::admission::Entrance;
use crate::socket::Connection;

/// Accepts stream connections for ever and keeps them for the process that names them.
pub(crate) async fn accept_streams(entrance: Entrance, streams: Arc<Streams>) {
    loop {
        match entrance.accept().await {
            Ok(connection) => {
                tokio::spawn(pairing::identify(connection, Arc::clone(&streams)));
            }
            Err(error) => {
                // Out of descriptors or memory: others must finish before the next can come.
                log::warn!("accept a stream: {error}");
                tokio::time::sleep(pairing::ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The host's connections of one process.
#[derive(Debug)]
pub(crate) struct Connections {
    stdin: Option<Connection>,
    stdout: Option<Connection>,
    stderr: Option<Connection>,
}

impl Connections {
    /// Waits for the connections that a process names.
    ///
    /// # Errors
    /// One does not come in time.
    pub(crate) async fn claim(
        streams: &Streams,
        ids: &agent_api::types::Streams,
    ) -> Result<Self, StreamError> {
        let (stdin, stdout, stderr) = tokio::try_join!(
            streams.claim(ids.stdin),
            streams.claim(ids.stdout),
            streams.claim(ids.stderr)
        )?;
        Ok(Self { stdin, stdout, stderr })
    }

    /// Makes a pipe for every connection: the process's ends, and the copies to be started when
    /// the process exists.
    pub(crate) fn pipes(self) -> io::Result<(Vec<OwnedFd>, Copies)> {
        let (stdin, input) = match self.stdin {
            Some(connection) => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                (read, Some((connection, endpoint(write)?)))
            }
            None => (null()?, None),
        };
        let mut descriptors = vec![stdin];
        let mut outputs = Vec::new();
        for connection in [self.stdout, self.stderr] {
            match connection {
                Some(connection) => {
                    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                    descriptors.push(write);
                    outputs.push((endpoint(read)?, connection));
                }
                None => descriptors.push(null()?),
            }
        }
        Ok((descriptors, Copies { input, outputs }))
    }

    /// The copies of a process with a terminal.
    pub(crate) fn terminal(self, terminal: &Endpoint) -> Copies {
        Copies {
            input: self.stdin.map(|connection| (connection, Arc::clone(terminal))),
            outputs: self
                .stdout
                .map(|connection| (Arc::clone(terminal), connection))
                .into_iter()
                .collect(),
        }
    }
}

/// Copies that wait for their process.
#[derive(Debug)]
pub(crate) struct Copies {
    input: Option<(Connection, Endpoint)>,
    outputs: Vec<(Endpoint, Connection)>,
}

impl Copies {
    /// Runs them in the background until the process's streams end.
    pub(crate) fn start(self, exit: &ExitWatch) {
        if let Some((connection, sink)) = self.input {
            tokio::spawn(copy::carry_input(connection, sink, exit.clone()));
        }
        for (source, connection) in self.outputs {
            tokio::spawn(copy::carry_output(source, connection, exit.clone()));
        }
    }
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}
