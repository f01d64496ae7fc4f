//! Files whose disk may be slow or not answer at all: a thread of its own waits for it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the filesystem of a file may take until the file is open.
const OPEN: Duration = Duration::from_secs(20);

/// Opens a file to append to, with its directories.
///
/// # Errors
/// What the filesystem answered; that it did not answer in time.
pub async fn append(path: &Path) -> io::Result<Arc<File>> {
    let path = path.to_owned();
    let open = move || {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        OpenOptions::new().append(true).create(true).open(path)
    };
    in_time(open).await.map(Arc::new)
}

/// Work that opens a file, on a thread that may block.
pub async fn in_time<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::time::timeout(OPEN, blocking(work)).await.unwrap_or_else(|_| {
        let text = format!("its filesystem has not answered for {} s", OPEN.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// Work for a file on a thread that may block.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn file_that_can_not_be_opened_in_time_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        let opened = path.clone();
        let opening = tokio::spawn(async move { append(&opened).await });
        // Tokio's clock stands still while a thread blocks.
        tokio::task::yield_now().await;
        tokio::time::advance(OPEN).await;
        let error = opening.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Lets the thread go.
        drop(OpenOptions::new().read(true).write(true).open(&path).unwrap());
    }
}
