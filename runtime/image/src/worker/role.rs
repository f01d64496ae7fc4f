//! The worker's side.

mod files;
mod layer;
mod load;
mod pull;

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use serde::Serialize;
use vmm_api::wire::{Channel, WireError};

use super::jail;
use super::words::{self, Failure, FailureKind, Job, Told};
use crate::text::chain;

/// Threads that speak to registries, of which one may wait for another.
const THREADS: usize = 2;

/// Why a worker is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleError {
    /// The daemon is not understood.
    #[error("hearing what to do")]
    Wire(#[from] WireError),
    /// A job came without its descriptors, or where it makes no sense.
    #[error("{0} can't be done here")]
    Order(&'static str),
    /// The system said no.
    #[error("{0}")]
    Io(&'static str, #[source] std::io::Error),
    /// It would have had rights.
    #[error(transparent)]
    Jail(#[from] jail::JailError),
    /// Something can't be told.
    #[error("telling the daemon")]
    Tell(#[from] postcard::Error),
}

/// A job's socket.
#[derive(Debug)]
pub(crate) struct Socket(UnixStream);

impl Socket {
    /// Tells the daemon something. One that listens no more has given the job up, and hears nothing.
    fn tell(&mut self, told: &impl Serialize) -> Result<(), RoleError> {
        let frame = words::frame(told)?;
        self.0.write_all(&frame).map_err(|error| RoleError::Io("telling the daemon", error))
    }
}

/// A job with its descriptors.
#[derive(Debug)]
struct Given {
    job: Job,
    socket: Socket,
    file: Option<OwnedFd>,
    more: Option<OwnedFd>,
}

impl Given {
    fn receive(jobs: &Channel) -> Result<Self, WireError> {
        let (job, files) = jobs.recv::<Job>()?;
        let mut files = files.into_iter();
        let socket = Socket(files.next().ok_or(WireError::Closed)?.into());
        Ok(Self { job, socket, file: files.next(), more: files.next() })
    }

    fn file(&mut self) -> Result<std::fs::File, RoleError> {
        Ok(self.file.take().ok_or(RoleError::Order("a job without its file"))?.into())
    }
}

/// Is a worker, with the daemon's socket as standard input, until the daemon needs none.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The daemon repeats it.
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), RoleError> {
    let jobs = std::io::stdin().as_fd().try_clone_to_owned();
    let jobs = Channel::new(jobs.map_err(|error| RoleError::Io("taking the socket", error))?);
    jail::end_with_the_daemon()?;
    let first = Given::receive(&jobs)?;
    match &first.job {
        Job::Resolve(_) => pull::serve(&jobs, first),
        Job::Open => load::serve(&jobs, first),
        Job::File(_) | Job::Save(_) => files::serve(&jobs, first),
        Job::Layer(_) | Job::Entry(..) | Job::Parents => {
            Err(RoleError::Order("a layer of nothing"))
        }
    }
}

/// The next job; none when the daemon needs nothing more.
fn next(jobs: &Channel) -> Result<Option<Given>, RoleError> {
    match Given::receive(jobs) {
        Ok(given) => Ok(Some(given)),
        Err(WireError::Closed) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A failure with its kind.
fn failed(kind: FailureKind, error: &dyn std::error::Error) -> Told {
    Told::Failed(Failure::new(kind, &chain(error)))
}

/// What a failure to write means.
fn of_output(error: &std::io::Error) -> FailureKind {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => FailureKind::Full,
        _ => FailureKind::Invalid,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, RoleError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let made = builder.worker_threads(THREADS).enable_all().build();
    made.map_err(|error| RoleError::Io("starting threads", error))
}
