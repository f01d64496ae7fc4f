//! What can go wrong with a pod's network.

use std::io;
use std::path::PathBuf;

/// Why a network is not what it shall be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no network namespace at the path, or not any more.
    #[error("{} is no network namespace", .0.display())]
    Gone(PathBuf),
    /// The namespace is the host's own, whose traffic must not be taken.
    #[error("{} is the host's own network namespace", .0.display())]
    Own(PathBuf),
    /// Another machine has an interface.
    #[error("interface {interface} belongs to the machine that holds its tap {tap}")]
    Held {
        /// Its name.
        interface: String,
        /// The name of the tap.
        tap: String,
    },
    /// The kernel refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Its answer.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: &str, source: io::Error) -> Self {
        Self::Io { doing: doing.to_owned(), source }
    }
}
