//! Why a request was not done, by what its caller can do about it.

use shim_client::Error;
use tonic::{Code, Status};

/// Why something that was asked for did not happen. The texts are for people, and say what was
/// being done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The name is in use for something else.
    #[error("{0}")]
    AlreadyExists(String),
    /// The request does not fit the state of what it names.
    #[error("{0}")]
    FailedPrecondition(String),
    /// The request itself can't be right.
    #[error("{0}")]
    InvalidArgument(String),
    /// It is not offered.
    #[error("{0}")]
    Unimplemented(String),
    /// It took too long, and may still be done.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// It can't be done now, and may be later.
    #[error("{0}")]
    Unavailable(String),
    /// Whoever asked has gone, and it was undone.
    #[error("{0}")]
    Cancelled(String),
    /// The kubelet reads the first word of this text, which no code must stand before.
    #[error("{0}")]
    Unknown(String),
    /// Something else on the node.
    #[error("{0}")]
    Internal(String),
}

/// Runs what blocks beside everything else.
///
/// # Errors
/// [`Fault::Internal`]: none but when the daemon ends.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::Internal(format!("{doing}: {error}")))
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let code = match &fault {
            Fault::NotFound(_) => Code::NotFound,
            Fault::AlreadyExists(_) => Code::AlreadyExists,
            Fault::FailedPrecondition(_) => Code::FailedPrecondition,
            Fault::InvalidArgument(_) => Code::InvalidArgument,
            Fault::Unimplemented(_) => Code::Unimplemented,
            Fault::DeadlineExceeded(_) => Code::DeadlineExceeded,
            Fault::Unavailable(_) => Code::Unavailable,
            Fault::Cancelled(_) => Code::Cancelled,
            Fault::Unknown(_) => Code::Unknown,
            Fault::Internal(_) => Code::Internal,
        };
        Self::new(code, fault.to_string())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound(_) => Self::NotFound(text),
            Error::AlreadyExists(_) => Self::AlreadyExists(text),
            Error::FailedPrecondition(_) => Self::FailedPrecondition(text),
            Error::InvalidArgument(_) => Self::InvalidArgument(text),
            Error::Unimplemented(_) => Self::Unimplemented(text),
            Error::DeadlineExceeded(_) => Self::DeadlineExceeded(text),
            Error::Unavailable(_) | Error::Disconnected(_) | Error::Gone(_) => {
                Self::Unavailable(text)
            }
            Error::Runtime(_) => Self::FailedPrecondition(text),
            Error::Command(_) | Error::Other(_) => Self::Internal(text),
        }
    }
}
