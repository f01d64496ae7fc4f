//! Work that waits for the host's kernel or files.

use std::time::Duration;

use api::Error;

/// How long the host may take to answer. The thread that waits for it goes on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does such work on a thread of its own. A filesystem that does not answer holds up the container
/// that wants it, for [`PATIENCE`], and nothing else of the pod.
///
/// # Errors
/// Those of the work; that it panicked; that the host did not answer, with what was being done.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.unwrap_or_else(|error| Err(Error::failed(doing, &error))),
        Err(_) => {
            let limit = PATIENCE.as_secs();
            Err(Error::Deadline(format!("{doing}: the host has not answered for {limit} s")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn filesystem_that_does_not_answer_is_told_in_time() {
        let (answer, waits) = std::sync::mpsc::channel::<()>();
        let hangs = move || {
            let _over = waits.recv();
            Ok(())
        };
        let looking = tokio::spawn(async move { blocking("looking at /mnt/nfs", hangs).await });
        // Tokio's clock stands still while a thread blocks.
        tokio::task::yield_now().await;
        tokio::time::advance(PATIENCE).await;
        let error = looking.await.unwrap().unwrap_err();
        assert!(matches!(&error, Error::Deadline(text) if text.contains("/mnt/nfs")), "{error}");
        drop(answer);
    }
}
