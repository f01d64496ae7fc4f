//! How steps of `container-init` say what they were doing when they failed.

use std::fmt::Display;

use crate::control::{Failure, FailureKind};

impl Failure {
    /// The configuration asks for what cannot be.
    pub(super) fn configuration(message: impl Display) -> Self {
        Self { kind: FailureKind::Configuration, message: message.to_string() }
    }

    /// The program cannot be executed.
    pub(super) fn program(message: impl Display) -> Self {
        Self { kind: FailureKind::Program, message: message.to_string() }
    }

    /// The guest failed.
    pub(super) fn guest(message: impl Display) -> Self {
        Self { kind: FailureKind::Guest, message: message.to_string() }
    }
}

/// Adds what was being done to an error.
pub(super) trait Context<T> {
    /// With a fixed text.
    fn context(self, doing: &str) -> Result<T, Failure>;

    /// With a text that is only made on failure.
    fn with_context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T, Failure>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::guest(format_args!("{doing}: {error}")))
    }

    fn with_context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|error| Failure::guest(format_args!("{}: {error}", doing())))
    }
}
