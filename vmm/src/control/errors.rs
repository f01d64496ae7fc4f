//! How errors of the machine become replies: their kind for programs, their whole chain of
//! causes for people.

use std::error::Error;

use vmm_api::{ErrorKind, ErrorReply};

use crate::devices::catalog::CatalogError;
use crate::machine::{BuildError, MachineError, SaveError};
use crate::memory::MemoryError;
use crate::saved::SavedError;
use crate::vcpu::StateError;
use crate::windows::WindowError;

/// A reply with the whole chain of causes in one line.
pub(super) fn reply(kind: ErrorKind, error: &dyn Error) -> ErrorReply {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    ErrorReply { kind, message }
}

/// What kind of failure it is that a machine could not be built.
pub(super) fn kind(error: &BuildError) -> ErrorKind {
    match error {
        BuildError::Descriptors(_)
        | BuildError::NoSerial
        | BuildError::Config(_)
        | BuildError::Several(_)
        | BuildError::Boot(_) => ErrorKind::Invalid,
        BuildError::Memory(error) => memory_kind(error),
        BuildError::Saved(error) => saved_kind(error),
        BuildError::Device { source, .. } => machine_kind(source),
        BuildError::Kvm(_) | BuildError::Vcpu(_) | BuildError::Jail(_) | BuildError::Threads(_) => {
            ErrorKind::Host
        }
    }
}

/// A saved machine is for one host, and one request.
fn saved_kind(error: &SavedError) -> ErrorKind {
    match error {
        SavedError::Cpu { .. } => ErrorKind::Host,
        _ => ErrorKind::Invalid,
    }
}

/// What kind of failure it is that a machine was not saved.
pub(super) fn save_kind(error: &SaveError) -> ErrorKind {
    match error {
        SaveError::NotToBeSaved | SaveError::Device(_) => ErrorKind::State,
        SaveError::Vcpu(StateError::Started(_) | StateError::Gone(_)) => ErrorKind::State,
        SaveError::File(_) => ErrorKind::Invalid,
        SaveError::Vcpu(_) | SaveError::Kvm(_) => ErrorKind::Host,
    }
}

fn memory_kind(error: &MemoryError) -> ErrorKind {
    match error {
        MemoryError::LargerThanHost { .. }
        | MemoryError::Map(_)
        | MemoryError::MapSaved(_)
        | MemoryError::Written(_)
        | MemoryError::Dumps(_) => ErrorKind::Host,
        MemoryError::Size { .. }
        | MemoryError::Kind
        | MemoryError::Writable
        | MemoryError::Examine(_) => ErrorKind::Invalid,
    }
}

/// What kind of failure it is that a machine was not changed.
pub(super) fn machine_kind(error: &MachineError) -> ErrorKind {
    match error {
        MachineError::Descriptors(_)
        | MachineError::AtBootOnly(_)
        | MachineError::Device(CatalogError::Descriptors(_) | CatalogError::Tap(_))
        | MachineError::Window(
            WindowError::Empty(_) | WindowError::Park { .. } | WindowError::Restore { .. },
        ) => ErrorKind::Invalid,
        MachineError::Window(WindowError::Full) => ErrorKind::NoWindow,
        MachineError::Device(CatalogError::Device(_))
        | MachineError::Window(WindowError::Wire { .. }) => ErrorKind::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_tells_every_cause() {
        let inner = std::io::Error::from_raw_os_error(2);
        let error = BuildError::Threads(inner);
        let reply = reply(kind(&error), &error);
        assert_eq!(reply.kind, ErrorKind::Host);
        assert!(reply.message.starts_with("start threads: No such file"), "{}", reply.message);
    }
}
