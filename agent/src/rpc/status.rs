//! The one table from the agent's errors to gRPC status codes.

use std::error::Error as _;
use std::fmt::Display;

use ttrpc::Code;

use crate::cgroup::CgroupError;
use crate::control::FailureKind;
use crate::error::Error;
use crate::launch::LaunchError;

fn code(error: &Error) -> Code {
    match error {
        Error::NoContainer(_) | Error::NoProcess(_) => Code::NOT_FOUND,
        Error::Exists(_) => Code::ALREADY_EXISTS,
        Error::State(_) | Error::Refused(_) => Code::FAILED_PRECONDITION,
        Error::Invalid(_) | Error::Cgroup(CgroupError::Limits(_)) => Code::INVALID_ARGUMENT,
        Error::Launch(LaunchError::Failed(failure)) => match failure.kind {
            FailureKind::Configuration => Code::INVALID_ARGUMENT,
            // What runc's shim answers for a program that cannot be executed.
            FailureKind::Program => Code::UNKNOWN,
            FailureKind::Guest => Code::INTERNAL,
        },
        Error::Stream(_) => Code::DEADLINE_EXCEEDED,
        // As runc: the container's limit, or the pod's, did not suffice.
        Error::Launch(LaunchError::OutOfMemory { .. }) => Code::RESOURCE_EXHAUSTED,
        Error::Launch(_) | Error::Cgroup(_) | Error::Io { .. } => Code::INTERNAL,
    }
}

/// The answer for an error, with its whole chain of causes in one line.
pub(super) fn of(error: Error) -> ttrpc::Error {
    let code = code(&error);
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    let message = line(&message);
    if code == Code::INTERNAL {
        log::warn!("{message}");
    }
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message))
}

/// Longest message of an answer in bytes. Names in it may be an image's.
const MAX_MESSAGE: usize = 1 << 10;

/// A message as one line of at most [`MAX_MESSAGE`] bytes, without control characters.
fn line(message: &str) -> String {
    let end = message.floor_char_boundary(MAX_MESSAGE);
    message[..end].replace(char::is_control, " ")
}

/// The answer for a failure of the agent itself.
pub(super) fn internal(reason: &impl Display) -> ttrpc::Error {
    log::error!("{reason}");
    ttrpc::Error::RpcStatus(ttrpc::get_status(Code::INTERNAL, line(&reason.to_string())))
}

#[cfg(test)]
mod tests {
    use super::{MAX_MESSAGE, line};

    #[test]
    fn messages_are_short_lines() {
        assert_eq!(line("a\nb\u{1b}[1m\u{9b}c"), "a b [1m c");
        let long = line(&"\u{e4}\n".repeat(1000));
        assert!(long.len() <= MAX_MESSAGE && long.len() > MAX_MESSAGE - 4, "{}", long.len());
    }
}
