//! The client's end of a connection.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use vm_memory::{ReadVolatile, VolatileMemoryError, WriteVolatile};

/// A stream that never blocks, in both directions.
pub(super) trait HostStream: Write + ReadVolatile + WriteVolatile {
    /// Ends one or both directions, as for a socket.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

impl HostStream for UnixStream {
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        UnixStream::shutdown(self, how)
    }
}

/// Why a stream could not be read or written.
pub(super) fn into_io(error: VolatileMemoryError) -> io::Error {
    match error {
        VolatileMemoryError::IOError(error) => error,
        other => io::Error::other(other),
    }
}
