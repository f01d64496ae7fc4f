//! The layer that some images have on top of their own, see [`crate::parents`], which a
//! [worker](crate::worker) makes.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use crate::parents::{self, ParentsError};
use crate::worker::words::{Job, Told};
use crate::worker::{Call, Launcher, Worker, WorkerError};

/// A layer that was not made.
#[derive(Debug, thiserror::Error)]
pub enum ImpliedError {
    /// The layers below it can't be opened.
    #[error(transparent)]
    Layers(#[from] ParentsError),
    /// The process that was to make it did not.
    #[error("making the layer of implied directories")]
    Worker(#[from] WorkerError),
    /// It can't be made: all causes in one line.
    #[error("{0}")]
    Failed(String),
}

/// Has the layer of an image's implied directories written into `out`; whether there are any.
/// `layers` are the image's EROFS files, the lowest one first.
///
/// # Errors
/// [`ImpliedError`].
pub async fn make(
    launcher: &Launcher,
    layers: &[PathBuf],
    out: BorrowedFd<'_>,
) -> Result<bool, ImpliedError> {
    let worker = Worker::start(launcher)?;
    for (path, file) in parents::open(layers)? {
        drop(worker.call(&Job::File(path), &[file.as_fd()]).await?);
    }
    match worker.call(&Job::Parents, &[out]).await?.told().await? {
        Ok(Told::Implied(has)) => Ok(has),
        Ok(told) => Err(Call::unexpected(&told).into()),
        Err(failure) => Err(ImpliedError::Failed(failure.text)),
    }
}
