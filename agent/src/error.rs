//! What can go wrong with containers and processes, seen from the services.

use std::io;

use crate::admission::Refusal;
use crate::cgroup::CgroupError;
use crate::launch::LaunchError;
use crate::stdio::StreamError;

/// An operation on a container or process that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No container has this id.
    #[error("container {0:?} does not exist")]
    NoContainer(String),
    /// The container has no such process.
    #[error("process {0:?} does not exist")]
    NoProcess(String),
    /// The id is in use.
    #[error("{0:?} exists already")]
    Exists(String),
    /// The container or process is not in a state for this.
    #[error("{0}")]
    State(&'static str),
    /// The guest is not at the stage for this.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request cannot be understood.
    #[error("{0}")]
    Invalid(String),
    /// The process could not be made.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A stream did not come.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The cgroup did not obey.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The guest failed.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// An I/O error with what was tried.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source: source.into() }
    }
}

/// The result of an operation.
pub(crate) type Result<T> = std::result::Result<T, Error>;
