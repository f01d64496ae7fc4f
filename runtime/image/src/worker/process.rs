//! The daemon's side of a worker.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{oneshot, watch};
use vmm_api::wire::{Channel, WireError};

use super::words::{self, Failure, FrameError, Job, Told};
use crate::text::line;

/// What it is called in lists of processes.
const NAME: &str = "cuddyd-images";

/// Most bytes of its words on stderr that are read: those of a panic.
const MAX_SAID: u64 = 8 << 10;

/// Most characters of a line of it.
const MAX_LINE: usize = 300;

/// How long the end of a process may take to be known once its socket is closed.
const END: Duration = Duration::from_secs(5);

/// How workers are started.
#[derive(Debug, Clone)]
pub struct Launcher {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

/// A worker that did not do its part.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WorkerError {
    /// It was not started.
    #[error("starting the process for images: {0}")]
    Start(Arc<io::Error>),
    /// It does not take what it is to do.
    #[error("telling the process for images what to do: {0}")]
    Send(Arc<WireError>),
    /// It has ended before its job.
    #[error("the process for images {0}")]
    Ended(String),
    /// It says what can't be.
    #[error("the process for images can't be believed: {0}")]
    Lie(String),
}

impl From<io::Error> for WorkerError {
    fn from(error: io::Error) -> Self {
        Self::Start(Arc::new(error))
    }
}

impl From<WireError> for WorkerError {
    fn from(error: WireError) -> Self {
        Self::Send(Arc::new(error))
    }
}

impl From<FrameError> for WorkerError {
    fn from(error: FrameError) -> Self {
        Self::Lie(error.to_string())
    }
}

/// A worker, which is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Channel,
    /// How it ended; none while it lives.
    ended: watch::Receiver<Option<String>>,
    _lives: oneshot::Sender<()>,
    pid: u32,
}

impl Worker {
    /// Starts one. The caller's thread must live as long as the process: the worker ends with it.
    ///
    /// # Errors
    /// [`WorkerError::Start`].
    pub(crate) fn start(launcher: &Launcher) -> Result<Arc<Self>, WorkerError> {
        let (jobs, theirs) = Channel::pair()?;
        // One that takes nothing must not hold up a thread of the daemon.
        rustix::io::ioctl_fionbio(&jobs, true).map_err(io::Error::from)?;
        let mut command = Command::new(&launcher.program);
        command.args(&launcher.arguments).arg0(NAME).current_dir("/").kill_on_drop(true);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        let said = child.stderr.take();
        let (lives, gone) = oneshot::channel();
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            let status = supervise(child, gone);
            let (status, said) = tokio::join!(status, hear(said));
            // Nobody may want to know.
            let _ = tell.send(Some(words_of_end(pid, status, &said)));
        });
        Ok(Arc::new(Self { jobs, ended, _lives: lives, pid }))
    }

    /// Its number.
    #[cfg(test)]
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Gives it a job, with the descriptors that this takes.
    ///
    /// # Errors
    /// [`WorkerError::Send`] or [`WorkerError::Ended`].
    pub(crate) async fn call(
        self: &Arc<Self>,
        job: &Job,
        files: &[BorrowedFd<'_>],
    ) -> Result<Call, WorkerError> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        let all: Vec<_> = [theirs.as_fd()].into_iter().chain(files.iter().copied()).collect();
        match self.jobs.send(job, &all) {
            Ok(()) => Ok(Call { socket: ours, worker: Arc::clone(self) }),
            Err(WireError::Socket(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET)) => {
                Err(self.end().await)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Why nothing comes any more.
    async fn end(&self) -> WorkerError {
        let mut ended = self.ended.clone();
        let known = tokio::time::timeout(END, ended.wait_for(Option::is_some)).await;
        let words = match known {
            Ok(Ok(words)) => words.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        let silent = || format!("(pid {}) has closed its socket", self.pid);
        WorkerError::Ended(words.unwrap_or_else(silent))
    }
}

/// A job that goes on.
#[derive(Debug)]
pub(crate) struct Call {
    socket: UnixStream,
    worker: Arc<Worker>,
}

impl Call {
    /// Sends what the job takes besides. It is the daemon's own.
    pub(crate) async fn send(&mut self, frame: &[u8]) -> Result<(), WorkerError> {
        match self.socket.write_all(frame).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.worker.end().await),
        }
    }

    /// The next that is told, whose failures are errors of the inner kind.
    ///
    /// # Errors
    /// [`WorkerError`]: the worker is of no use then.
    pub(crate) async fn told(&mut self) -> Result<Result<Told, Failure>, WorkerError> {
        let mut head = [0; 4];
        if self.socket.read_exact(&mut head).await.is_err() {
            return Err(self.worker.end().await);
        }
        let mut frame = vec![0; words::length(head)?];
        if self.socket.read_exact(&mut frame).await.is_err() {
            return Err(self.worker.end().await);
        }
        Ok(match words::told(&frame)? {
            Told::Failed(failure) => Err(failure),
            told => Ok(told),
        })
    }

    /// Gives the job up, and waits until nothing of it goes on.
    pub(crate) async fn give_up(mut self) {
        // A worker that has ended has given up all.
        let _ = self.socket.shutdown().await;
        let mut rest = [0; 1024];
        while matches!(self.socket.read(&mut rest).await, Ok(1..)) {}
    }

    /// An answer that makes no sense here.
    pub(crate) fn unexpected(told: &Told) -> WorkerError {
        let text = line(&format!("{told:?}"), MAX_LINE);
        WorkerError::Lie(format!("it answers {text}"))
    }
}

/// Waits for its end, which comes at the latest when nobody has it any more.
async fn supervise(mut child: Child, gone: oneshot::Receiver<()>) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        _ = gone => {}
    }
    child.kill().await?;
    child.wait().await
}

/// Repeats its words in the log; the last ones.
async fn hear(from: Option<ChildStderr>) -> String {
    let Some(from) = from else { return String::new() };
    let mut last = String::new();
    let mut lines = BufReader::new(from.take(MAX_SAID)).split(b'\n');
    while let Ok(Some(said)) = lines.next_segment().await {
        let said = line(&String::from_utf8_lossy(&said), MAX_LINE);
        if !said.is_empty() {
            log::warn!("{NAME}: {said}");
            last = said;
        }
    }
    last
}

fn words_of_end(pid: u32, status: io::Result<ExitStatus>, said: &str) -> String {
    let how = match status {
        Ok(status) => format!("(pid {pid}) ended by {status}"),
        Err(error) => format!("(pid {pid}) ended: {error}"),
    };
    if said.is_empty() { how } else { format!("{how}: {said}") }
}
