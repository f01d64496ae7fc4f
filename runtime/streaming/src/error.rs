//! What a caller of the server is told.

use std::io;

/// Why no address was given, or no server started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A terminal has one output.
    #[error("a terminal and standard error cannot both be asked for")]
    TerminalWithStderr,
    /// There is nothing to stream.
    #[error("none of standard input, output and error is asked for")]
    NoStreams,
    /// More ports than a WebSocket has channels for.
    #[error("{0} ports are asked for, more than 127")]
    TooManyPorts(usize),
    /// [`crate::Limits::tokens`] addresses wait for their clients.
    #[error("too many sessions wait for their clients")]
    TooManyWaiting,
    /// The server is shutting down.
    #[error("the streaming server is shutting down")]
    ShuttingDown,
    /// The kernel gave no random bytes.
    #[error("no random bytes for a token: {0}")]
    Random(getrandom::Error),
    /// The listener has no address.
    #[error("the streaming server's listener has no address")]
    Listener(#[source] io::Error),
}
