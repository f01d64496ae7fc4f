//! Where a shim is, kept in its container's bundle for a daemon that was started again. The files
//! are containerd's, `bootstrap.json` and `address`. The second is what containerd before 2.0 and
//! CRI-O have; shims write it, too.

use std::io;
use std::path::Path;

use tokio::net::UnixStream;

use crate::endpoint::{Endpoint, EndpointError};

const JSON: &str = "bootstrap.json";
const ADDRESS: &str = "address";

/// Why a bundle does not say where its shim is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("no shim was started in it")]
    None,
    #[error("reading {0}: {1}")]
    Unread(&'static str, io::Error),
    #[error("{0}: {1}")]
    Nonsense(&'static str, EndpointError),
}

/// Writes down where the bundle's shim is. Each file is there as a whole or not at all.
///
/// # Errors
/// What the filesystem answered.
pub(crate) async fn write(bundle: &Path, endpoint: &Endpoint) -> io::Result<()> {
    for (name, text) in [(JSON, endpoint.json()), (ADDRESS, endpoint.address())] {
        let new = bundle.join(format!(".{name}.new"));
        tokio::fs::write(&new, text).await?;
        tokio::fs::rename(&new, bundle.join(name)).await?;
    }
    Ok(())
}

/// Reads where the bundle's shim is.
///
/// # Errors
/// That nothing says so, or that it makes no sense.
pub(crate) async fn read(bundle: &Path) -> Result<Endpoint, BundleError> {
    for name in [JSON, ADDRESS] {
        match tokio::fs::read(bundle.join(name)).await {
            Ok(text) => {
                return Endpoint::parse(&text).map_err(|error| BundleError::Nonsense(name, error));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BundleError::Unread(name, error)),
        }
    }
    Err(BundleError::None)
}

/// Removes the socket of the bundle's shim if nobody is left behind it.
pub(crate) async fn remove_dead_socket(bundle: &Path) {
    let Ok(Endpoint { socket, .. }) = read(bundle).await else { return };
    let refused = UnixStream::connect(&socket).await.err().map(|error| error.kind());
    if refused == Some(io::ErrorKind::ConnectionRefused)
        && let Err(error) = tokio::fs::remove_file(&socket).await
    {
        log::warn!("removing {}: {error}", socket.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::TaskVersion;

    #[tokio::test]
    async fn endpoint_is_found_again_and_an_older_bundle_has_its_address() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()).await, Err(BundleError::None)));
        let written = Endpoint { version: TaskVersion::V3, socket: "/run/s/1".into() };
        for _ in 0..2 {
            write(dir.path(), &written).await.unwrap();
        }
        assert_eq!(read(dir.path()).await.unwrap(), written);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        std::fs::remove_file(dir.path().join(JSON)).unwrap();
        let older = Endpoint { version: TaskVersion::V2, ..written };
        assert_eq!(read(dir.path()).await.unwrap(), older);
        std::fs::write(dir.path().join(ADDRESS), "vsock://3:1").unwrap();
        let error = read(dir.path()).await.unwrap_err().to_string();
        assert!(error.contains("address") && error.contains("vsock://3:1"), "{error}");
    }

    #[tokio::test]
    async fn socket_is_removed_when_nobody_is_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        remove_dead_socket(dir.path()).await;
        let socket = dir.path().join("socket");
        let endpoint = Endpoint { version: TaskVersion::V2, socket: socket.clone() };
        write(dir.path(), &endpoint).await.unwrap();
        remove_dead_socket(dir.path()).await;
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        remove_dead_socket(dir.path()).await;
        assert!(socket.exists());
        drop(listener);
        remove_dead_socket(dir.path()).await;
        assert!(!socket.exists());
    }
}
