//! New ids of pods and containers.

use std::fmt::Write;
use std::io;

use api::{ContainerId, SandboxId};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::fault::Fault;

/// Bytes of an id.
const BYTES: usize = 32;

/// A new id: 64 hexadecimal digits that nobody can guess.
///
/// # Errors
/// The kernel gives no random bytes.
pub(crate) fn new() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    let got = getrandom(&mut bytes[..], GetRandomFlags::empty())?;
    if got < BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes all that is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A container's or a pod's id, as shims take it.
///
/// # Errors
/// [`Fault::InvalidArgument`]: none of an id that the daemon made.
pub(crate) fn of_container(id: &str) -> Result<ContainerId, Fault> {
    ContainerId::new(id).map_err(|error| Fault::InvalidArgument(error.to_string()))
}

/// A pod's id, as shims take it for a sandbox.
///
/// # Errors
/// [`Fault::InvalidArgument`]: none of an id that the daemon made.
pub(crate) fn of_sandbox(id: &str) -> Result<SandboxId, Fault> {
    SandboxId::new(id).map_err(|error| Fault::InvalidArgument(error.to_string()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_as_long_as_everybodys_and_differ() {
        let (one, other) = (super::new().unwrap(), super::new().unwrap());
        assert_eq!(one.len(), 64);
        assert!(api::ContainerId::new(&one).is_ok());
        assert_ne!(one, other);
    }
}
