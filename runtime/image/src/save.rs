//! Images into an archive, which a [worker](crate::worker) writes.

use std::os::fd::{AsFd, BorrowedFd};

use crate::export::{ExportError, Exported, Format, Plan, Wanted};
use crate::store::Store;
use crate::worker::words::{Failure, FailureKind, Job, Told, frame};
use crate::worker::{Call, Launcher, Worker, WorkerError};

/// An archive that was not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store has not what is wanted.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Whoever takes the archive does not.
    #[error("{0}")]
    Gone(String),
    /// An image has no archive: all causes in one line.
    #[error("{0}")]
    Failed(String),
    /// The process that was to write it did not.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

impl From<Failure> for SaveError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Gone => Self::Gone(failure.text),
            _ => Self::Failed(failure.text),
        }
    }
}

/// Writes an archive of images. It is given up when the future is dropped.
///
/// # Errors
/// [`SaveError`]; what was written is of no use then.
pub async fn save(
    store: &Store,
    launcher: &Launcher,
    (wanted, format): (&[Wanted], Format),
    out: BorrowedFd<'_>,
) -> Result<Vec<Exported>, SaveError> {
    // A look at the store's rows, which are in memory but for the configurations.
    let (plan, files) = Plan::new(store, wanted)?;
    let worker = Worker::start(launcher)?;
    for (path, file) in files {
        drop(worker.call(&Job::File(path), &[file.as_fd()]).await?);
    }
    let mut call = worker.call(&Job::Save(format), &[out]).await?;
    let plan = frame(&plan).map_err(|error| SaveError::Failed(error.to_string()))?;
    call.send(&plan).await?;
    let mut exported = Vec::new();
    loop {
        match call.told().await?? {
            Told::Exported(one) if exported.len() < wanted.len() => exported.push(one),
            Told::Done => return Ok(exported),
            told => return Err(Call::unexpected(&told).into()),
        }
    }
}
