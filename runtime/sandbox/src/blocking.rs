//! Work that waits for the host's kernel or files.

use crate::Error;

/// Does such work on a thread of its own: a filesystem that does not answer holds up the container
/// that wants it, and nothing else of the pod.
///
/// # Errors
/// Those of the work, or that it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::failed("working on the host", &error)))
}
