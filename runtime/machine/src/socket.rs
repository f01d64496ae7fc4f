//! Unix sockets whose paths may be longer than an address holds (`sun_path`, 108 bytes, unix(7)).
//! Namespace and id of a sandbox have up to 76 bytes each. So a socket is named by its directory's
//! descriptor.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::net::UnixStream;

/// Listens on `path`.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (_directory, short) = short(path)?;
    UnixListener::bind(short)
}

/// Connects to `path`.
///
/// # Errors
/// What the kernel answered.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_directory, short) = short(path)?;
    UnixStream::connect(short).await
}

/// Another name of a path, as long as the descriptor is open.
fn short(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((directory, short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn longest_names_of_a_sandbox_can_be_listened_on_and_connected_to() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("n".repeat(76)).join("i".repeat(76));
        std::fs::create_dir_all(&place).unwrap();
        let path = place.join("vsock.sock");
        assert!(UnixListener::bind(&path).is_err());
        let listener = listen(&path).unwrap();
        assert!(path.exists());
        connect(&path).await.unwrap();
        listener.accept().unwrap();
        drop(listener);
        let refused = connect(&path).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let missing = listen(&dir.path().join("nowhere/socket")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
