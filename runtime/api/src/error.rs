//! What can go wrong with a sandbox, by what a caller can do about it. The door that answers
//! callers maps each variant to one code.

use crate::IdError;

/// Why an operation on a sandbox did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such container, process or exec.
    #[error("{what} {id:?} does not exist")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// The name is in use.
    #[error("{what} {id:?} already exists")]
    Exists {
        /// What was to be made.
        what: &'static str,
        /// Its name.
        id: String,
    },
    /// The request does not fit the state of what it names.
    #[error("{0}")]
    State(String),
    /// The request itself can't be right.
    #[error("{0}")]
    Invalid(String),
    /// The process has exited, so it can't be signalled.
    #[error("process {0:?} has already exited")]
    Exited(String),
    /// The machine is over.
    #[error("the sandbox's machine has ended: {0}")]
    MachineEnded(String),
    /// The time that the caller gave has passed.
    #[error("{0}")]
    Deadline(String),
    /// The connection to the guest broke, and with it the answer is lost.
    #[error("{0}")]
    Disconnected(String),
    /// What serves the request is not there: the machine ended meanwhile or is not heard of, or the
    /// host lacks something. Another attempt may find it.
    #[error("{0}")]
    Unavailable(String),
    /// Not offered.
    #[error("{0} is not implemented")]
    Unimplemented(&'static str),
    /// Something on the host or in the guest failed; the text is the whole chain of causes.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Wraps a failure with what was being done and its whole chain of causes.
    pub fn failed(doing: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Failed(format!("{doing}: {}", chain(error)))
    }

    /// The machine, which was needed, is over for this reason.
    pub fn machine_over(reason: &str) -> Self {
        Self::Unavailable(format!("the machine ended: {reason}"))
    }

    /// An unknown container.
    pub fn no_container(id: &str) -> Self {
        Self::NotFound { what: "container", id: id.to_owned() }
    }

    /// An unknown exec.
    pub fn no_exec(id: &str) -> Self {
        Self::NotFound { what: "exec", id: id.to_owned() }
    }
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The error and all its causes in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
