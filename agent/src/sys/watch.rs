//! Descriptors in tokio's event loop.
#![allow(unsafe_code, reason = "tokio wants a promise that the descriptor stays the same")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Watches a descriptor that does not block.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its descriptor open and unchanged as long as it lives, which is
    // as long as the AsyncFd.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}
