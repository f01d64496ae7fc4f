//! What can go wrong with a shim, by what a caller can do about it.

use ttrpc::{Code, Error as RpcError};

use crate::text::printable;

/// Why something that a shim was to do did not happen. Every text says what was being done, and
/// then what the shim said of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The shim does not have what was named, or does not have it any more.
    #[error("{0}")]
    NotFound(String),
    /// The name is in use.
    #[error("{0}")]
    AlreadyExists(String),
    /// The request does not fit the state of what it names.
    #[error("{0}")]
    FailedPrecondition(String),
    /// The request itself can't be right.
    #[error("{0}")]
    InvalidArgument(String),
    /// The shim does not offer the call, or the whole service.
    #[error("{0}")]
    Unimplemented(String),
    /// There was no answer in time. What was asked for may have been done, or may be done later.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The shim can't do it now. Another attempt may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The connection ended before the answer came. What was asked for may have been done.
    #[error("{0}")]
    Disconnected(String),
    /// Nobody listens where the shim should: it has ended, or none was started.
    #[error("{0}")]
    Gone(String),
    /// The runtime's binary is not there or can't be executed.
    #[error("{0}")]
    Runtime(String),
    /// The runtime's binary ended without doing what it was executed for, or its answer makes no
    /// sense.
    #[error("{0}")]
    Command(String),
    /// Something else, on the host or in the shim.
    #[error("{0}")]
    Other(String),
}

/// How ttrpc's error begins when a call was made after the connection had broken: it has no kind
/// of its own.
const BROKEN: &str = "reserve channel capacity failed";

impl Error {
    /// What became of a call of `method` of `service`.
    pub(crate) fn of_call(doing: &str, service: &str, method: &str, error: RpcError) -> Self {
        let status = match error {
            RpcError::RpcStatus(status) => status,
            RpcError::Others(text) if !text.starts_with(BROKEN) => {
                return Self::Other(format!("{doing}: {}", printable(&text)));
            }
            _ => return Self::disconnected(doing),
        };
        let text = format!("{doing}: {}", printable(status.message()));
        if is_missing(status.code(), status.message(), service, method) {
            return Self::Unimplemented(text);
        }
        match status.code() {
            Code::NOT_FOUND => Self::NotFound(text),
            Code::ALREADY_EXISTS => Self::AlreadyExists(text),
            Code::FAILED_PRECONDITION => Self::FailedPrecondition(text),
            Code::INVALID_ARGUMENT => Self::InvalidArgument(text),
            Code::UNIMPLEMENTED => Self::Unimplemented(text),
            Code::DEADLINE_EXCEEDED => Self::DeadlineExceeded(text),
            Code::UNAVAILABLE => Self::Unavailable(text),
            _ => Self::Other(text),
        }
    }

    /// The connection ended while this was being done.
    pub(crate) fn disconnected(doing: &str) -> Self {
        Self::Disconnected(format!("{doing}: the connection to the shim broke"))
    }
}

/// Whether a status is how a shim of ttrpc's Rust library says that it lacks a call. It has other
/// codes for that than the one of Go's, and "not found" would be taken for the container's end.
fn is_missing(code: Code, text: &str, service: &str, method: &str) -> bool {
    let path = format!("/{service}/{method}");
    match code {
        Code::NOT_FOUND => text == format!("{path} is not supported"),
        Code::INVALID_ARGUMENT => {
            let names = [format!("{service} service"), path];
            names.iter().any(|name| text == format!("{name} does not exist"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ttrpc::get_status;

    use super::*;

    fn error(code: Code, text: &str) -> Error {
        let status = RpcError::RpcStatus(get_status(code, text));
        Error::of_call("starting", "a.v1.Task", "Start", status)
    }

    #[test]
    fn codes_are_kinds_and_keep_the_shims_text() {
        let text = || "starting: why".to_owned();
        let kinds = [
            (Code::NOT_FOUND, Error::NotFound(text())),
            (Code::ALREADY_EXISTS, Error::AlreadyExists(text())),
            (Code::FAILED_PRECONDITION, Error::FailedPrecondition(text())),
            (Code::INVALID_ARGUMENT, Error::InvalidArgument(text())),
            (Code::UNIMPLEMENTED, Error::Unimplemented(text())),
            (Code::DEADLINE_EXCEEDED, Error::DeadlineExceeded(text())),
            (Code::UNAVAILABLE, Error::Unavailable(text())),
            (Code::UNKNOWN, Error::Other(text())),
            (Code::INTERNAL, Error::Other(text())),
        ];
        for (code, kind) in kinds {
            assert_eq!(error(code, "why"), kind);
        }
    }

    #[test]
    fn call_that_a_shim_in_rust_lacks_is_not_taken_for_a_container_that_is_gone() {
        let lacks = [
            (Code::NOT_FOUND, "/a.v1.Task/Start is not supported"),
            (Code::INVALID_ARGUMENT, "a.v1.Task service does not exist"),
            (Code::INVALID_ARGUMENT, "/a.v1.Task/Start does not exist"),
        ];
        for (code, text) in lacks {
            assert!(matches!(error(code, text), Error::Unimplemented(_)), "{text}");
        }
        assert!(matches!(error(Code::NOT_FOUND, "web does not exist"), Error::NotFound(_)));
        let other = error(Code::INVALID_ARGUMENT, "b.v1.Task service does not exist");
        assert!(matches!(other, Error::InvalidArgument(_)));
    }

    #[test]
    fn broken_connection_is_told_apart_from_an_answer_that_makes_no_sense() {
        let of = |error| Error::of_call("starting", "a.v1.Task", "Start", error);
        for broken in [RpcError::Socket("eof".into()), RpcError::RemoteClosed, RpcError::Eof] {
            assert!(matches!(of(broken), Error::Disconnected(_)));
        }
        let late = RpcError::Others(format!("{BROKEN}: channel closed"));
        assert!(matches!(of(late), Error::Disconnected(_)));
        assert!(matches!(of(RpcError::Others("Unpack".into())), Error::Other(_)));
    }
}
