//! The one table of errors and gRPC codes. Both containerd and kubelet act on the codes. "Not
//! found" means gone for good, so it must be said exactly then.

use api::Error;

use ttrpc::{Code, get_status};

/// The code for an error.
pub(crate) fn code(error: &Error) -> Code {
    match error {
        Error::NotFound { .. } => Code::NOT_FOUND,
        Error::Exists { .. } => Code::ALREADY_EXISTS,
        Error::State(_) => Code::FAILED_PRECONDITION,
        Error::Invalid(_) => Code::INVALID_ARGUMENT,
        // A process that has ended is as good as stopped to whoever wants to signal it.
        Error::Exited(_) => Code::NOT_FOUND,
        // No call to it will ever succeed again.
        Error::MachineEnded(_) => Code::NOT_FOUND,
        Error::Deadline(_) => Code::DEADLINE_EXCEEDED,
        Error::Disconnected(_) | Error::Unavailable(_) => Code::UNAVAILABLE,
        Error::Unimplemented(_) => Code::UNIMPLEMENTED,
        Error::Failed(_) => Code::INTERNAL,
    }
}

/// The answer to a call that failed.
pub(crate) fn status(error: impl Into<Error>) -> ttrpc::Error {
    let error = error.into();
    ttrpc::Error::RpcStatus(get_status(code(&error), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gone_is_said_only_of_what_is_gone() {
        let gone = [
            Error::no_container("a"),
            Error::no_exec("a"),
            Error::Exited("a".into()),
            Error::MachineEnded("panic".into()),
        ];
        assert!(gone.iter().all(|error| code(error) == Code::NOT_FOUND));
        let there = [
            Error::State("s".into()),
            Error::Invalid("i".into()),
            Error::Deadline("d".into()),
            Error::Disconnected("c".into()),
            Error::Unavailable("v".into()),
            Error::Failed("f".into()),
            Error::Unimplemented("u"),
        ];
        assert!(there.iter().all(|error| code(error) != Code::NOT_FOUND));
    }

    #[test]
    fn codes_that_clients_act_on() {
        let exists = Error::Exists { what: "container", id: "a".into() };
        assert_eq!(code(&exists), Code::ALREADY_EXISTS);
        assert_eq!(code(&Error::State("stopped".into())), Code::FAILED_PRECONDITION);
        assert_eq!(code(&Error::Unimplemented("checkpoint")), Code::UNIMPLEMENTED);
    }

    #[test]
    fn text_reaches_the_caller() {
        let ttrpc::Error::RpcStatus(status) = status(Error::Failed("why: because".into())) else {
            panic!("not a status");
        };
        assert_eq!(status.message(), "why: because");
    }
}
