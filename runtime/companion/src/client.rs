//! The daemon's side of a companion.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::words::{MAX_LINE, Reply, Request};

/// How long a companion may take to do what it is asked, which may have to wait for a disk.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the rest of an output may take: longer than a companion itself waits for it.
const DRAIN: Duration = Duration::from_mins(6);

/// Why a companion did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none, or it did not answer.
    #[error("the companion at {0}: {1}")]
    Call(PathBuf, io::Error),
    /// It can't be started.
    #[error("starting the companion at {0}: {1}")]
    Start(PathBuf, io::Error),
    /// It could not do it.
    #[error("{0}")]
    Refused(String),
}

/// A companion, by its socket; cheap to clone.
#[derive(Debug, Clone)]
pub struct Companion {
    socket: PathBuf,
}

impl Companion {
    /// The companion that listens, or shall listen, on `socket`.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Starts it from `binary`, unless it lives; whether it was started. It outlives this process.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub async fn start(&self, binary: &Path) -> Result<bool, Error> {
        if UnixStream::connect(&self.socket).await.is_ok() {
            return Ok(false);
        }
        let started = self.spawn(binary);
        started.map_err(|error| Error::Start(self.socket.clone(), error))?;
        Ok(true)
    }

    /// The socket listens before there is a process: from its first moment on it can be found, and
    /// be told to end.
    fn spawn(&self, binary: &Path) -> io::Result<()> {
        remove(&self.socket)?;
        let listener = UnixListener::bind(&self.socket)?;
        std::fs::set_permissions(&self.socket, Permissions::from_mode(0o600))?;
        let mut command = Command::new(binary);
        command.stdin(OwnedFd::from(listener)).stdout(Stdio::null());
        // Its own group: what is typed at a terminal to end the daemon is not for it.
        command.current_dir("/").process_group(0);
        command.spawn().map(drop)
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`Error::Call`], [`Error::Refused`].
    pub async fn ask(&self, request: &Request) -> Result<(), Error> {
        let limit = if matches!(request, Request::Drain { .. }) { DRAIN } else { LIMIT };
        let answer = tokio::time::timeout(limit, self.exchange(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let reply = answer.map_err(|error| Error::Call(self.socket.clone(), error))?;
        reply.error.map_or(Ok(()), |text| Err(Error::Refused(text)))
    }

    async fn exchange(&self, request: &Request) -> io::Result<Reply> {
        let mut connection = UnixStream::connect(&self.socket).await?;
        let mut text = serde_json::to_vec(request).map_err(io::Error::other)?;
        text.push(b'\n');
        connection.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(connection.take(MAX_LINE)).read_line(&mut line).await?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }

    /// Waits until it is gone: at once, if nobody listens.
    pub async fn gone(&self) {
        let Ok(mut connection) = UnixStream::connect(&self.socket).await else { return };
        // Nothing is asked, so nothing comes but the end.
        let _end = connection.read(&mut [0]).await;
    }

    /// Ends it, if it lives, and removes its socket. One that does not answer is left alone.
    ///
    /// # Errors
    /// That it lives and does not answer.
    pub async fn end(&self) -> Result<(), Error> {
        match self.ask(&Request::End).await {
            Err(Error::Call(path, error)) if !is_gone(&error) => {
                return Err(Error::Call(path, error));
            }
            _ => {}
        }
        remove(&self.socket).map_err(|error| Error::Call(self.socket.clone(), error))
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn remove(socket: &Path) -> io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
