//! The shim's socket: its name, and taking it or finding who has it.

#![allow(unsafe_code, reason = "the daemon takes over the listener that its parent left it")]

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Longest path of a Unix socket (`sun_path` of 108 bytes, its zero byte, and Go's margin).
const MAX_PATH: usize = 106;

/// Numbers of the listener's and the lock's descriptors in the daemon.
const INHERITED: [i32; 2] = [3, 4];

/// Where the shim of a sandbox listens: the same for all of its containers, unlike any other's.
pub(crate) fn socket_path(dir: &str, containerd: &str, namespace: &str, group: &str) -> PathBuf {
    let name = Sha256::digest(
        Path::new(containerd).join(namespace).join(group).as_os_str().as_encoded_bytes(),
    );
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(dir).join(name)
}

/// What became of an attempt to listen.
#[derive(Debug)]
pub(crate) enum Listening {
    /// The socket is new and has no server yet.
    Fresh(UnixListener),
    /// A living shim has it.
    Taken,
}

/// Listens on `path`, or finds the shim that does. A dead shim's socket is replaced, and so would
/// be one that is not served yet: the caller holds the sandbox's lock until it is.
///
/// # Errors
/// What the kernel answered, and paths that are too long.
pub(crate) fn listen(path: &Path) -> io::Result<Listening> {
    if path.as_os_str().len() > MAX_PATH {
        let text = format!("{} is too long for a socket: {MAX_PATH} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if answers(path) {
                return Ok(Listening::Taken);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Listening::Fresh(listener))
}

/// Whether somebody listens on the socket `path`.
pub(crate) fn answers(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// What `start` left to the daemon.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The socket.
    pub(crate) listener: UnixListener,
    /// The sandbox's lock, to be let go when it is served.
    pub(crate) lock: OwnedFd,
}

/// Takes over what `start` left to the daemon.
///
/// # Errors
/// When descriptor 3 is no socket: the daemon was not called by `start`.
pub(crate) fn inherited() -> io::Result<Inherited> {
    let [listener, lock] = INHERITED.map(|number| {
        // SAFETY: nothing else of this process owns the descriptors: they were open before
        // `main`, and this function is called once.
        unsafe { OwnedFd::from_raw_fd(number) }
    });
    rustix::net::sockopt::socket_type(listener.as_fd())?;
    for fd in [&listener, &lock] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    Ok(Inherited { listener, lock })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_the_hash_that_containerds_own_shims_use() {
        let path = socket_path("/run/containerd/s", "/run/containerd/containerd.sock", "ns", "id");
        // printf /run/containerd/containerd.sock/ns/id | sha256sum
        let hash = "6fe245f2dbeaade4b9f354af79f2371709f48a424ebdd71a6ab827fb4b2df3f0";
        assert_eq!(path, Path::new("/run/containerd/s").join(hash));
        assert!(path.as_os_str().len() < MAX_PATH);
    }

    #[test]
    fn living_shim_is_joined_and_a_dead_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s/socket");
        let Listening::Fresh(listener) = listen(&path).unwrap() else { panic!("taken") };
        assert!(matches!(listen(&path).unwrap(), Listening::Taken));
        drop(listener);
        assert!(!answers(&path));
        assert!(matches!(listen(&path).unwrap(), Listening::Fresh(_)));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn path_too_long_for_a_socket_is_named() {
        let path = Path::new("/tmp").join("x".repeat(110));
        let error = listen(&path).unwrap_err().to_string();
        assert!(error.contains("too long"), "{error}");
    }
}
