//! Network namespaces that exist by name, as `ip netns` makes them. A file on which the namespace is
//! mounted keeps it, with no process in it.

use std::fs::File;
use std::io;
use std::path::Path;

use netlink::{LOOPBACK, Link, LinkChange, Socket};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::{Error, Netns};

/// The namespace of the thread that asks.
const OF_THREAD: &str = "/proc/thread-self/ns/net";

/// Most mounts that are taken off one file. A crash between mounting and recording leaves one.
const LAYERS: usize = 16;

/// Makes a network namespace that stays until [`unpin`], and opens it. Its loopback is up. The
/// directory of `path` must exist, and `path` must not.
///
/// # Errors
/// [`Error::Io`] with what the kernel answered. Nothing of it is left then.
pub fn pin(path: &Path) -> Result<Netns, Error> {
    let doing = format!("making the network namespace {}", path.display());
    let failed = |error| Error::io(&doing, error);
    File::create_new(path).map_err(failed)?;
    let make = || -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        loopback_up()?;
        Ok(mount_bind(OF_THREAD, path)?)
    };
    // Only the thread is in the new namespace, and it ends.
    let made = std::thread::scope(|scope| scope.spawn(make).join());
    let made = made.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
    let opened = made.map_err(failed).and_then(|()| Netns::open(path));
    if opened.is_err() {
        let _first_error_counts = unpin(path);
    }
    opened
}

/// A plugin for this would be one more program to install and to run.
fn loopback_up() -> io::Result<()> {
    LinkChange::default().flags(Link::UP, Link::UP).apply(&mut Socket::open()?, LOOPBACK)
}

/// Removes the name of a network namespace. The namespace itself ends when no process and no open
/// file holds it. Can be repeated, also after a half failed [`pin`].
///
/// # Errors
/// [`Error::Io`] with what the kernel answered.
pub fn unpin(path: &Path) -> Result<(), Error> {
    let failed =
        |error| Error::io(&format!("removing the network namespace {}", path.display()), error);
    for _ in 0..LAYERS {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => break,
            Err(error) => return Err(failed(error.into())),
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Whether there is a network namespace at `path`. A file from which it was unmounted is none.
pub fn is_pinned(path: &Path) -> bool {
    matches!(Netns::open(path), Ok(_) | Err(Error::Own(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_namespace_is_new_has_loopback_and_goes_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pod");
        let netns = pin(&path).unwrap();
        assert!(is_pinned(&path));
        assert_eq!(netns.inode(), Netns::open(&path).unwrap().inode());
        let dial = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            std::net::TcpStream::connect(listener.local_addr()?)
        };
        netns.enter("dialling", dial).unwrap();
        let mut socket = netns.enter("opening", Socket::open).unwrap();
        let links = netlink::links(&mut socket).unwrap();
        assert!(links.iter().all(|link| link.index == LOOPBACK || link.flags & Link::UP == 0));
        let taken = pin(&path).unwrap_err();
        assert!(taken.to_string().contains("pod"), "{taken}");
        assert!(is_pinned(&path), "the one that was there stays");
        unpin(&path).unwrap();
        assert!(!path.exists() && !is_pinned(&path));
        unpin(&path).unwrap();
        let nowhere = directory.path().join("none/pod");
        assert!(pin(&nowhere).is_err());
    }

    #[test]
    fn file_without_a_namespace_is_none_and_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pod");
        File::create_new(&path).unwrap();
        assert!(!is_pinned(&path));
        unpin(&path).unwrap();
        assert!(!path.exists());
        drop(pin(&path).unwrap());
        mount_bind(&path, &path).unwrap();
        unpin(&path).unwrap();
        assert!(!path.exists(), "however often it was mounted");
    }
}
