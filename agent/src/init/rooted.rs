//! Paths inside a container's root, resolved as if it were the root already. Symbolic links of an
//! image never lead out of it, not even absolute ones (openat2(2), RESOLVE_IN_ROOT).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::{Errno, Result};

/// Dangling links that are followed to create what they point to.
const MAX_LINKS: u32 = 16;

/// A directory that is the root of paths.
#[derive(Debug)]
pub(crate) struct Rooted(OwnedFd);

/// What to create where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Create {
    /// A directory, mode 755.
    Directory,
    /// An empty file, mode 644.
    File,
}

const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

impl Rooted {
    /// Opens the directory.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        rustix::fs::open(path, PLACE | OFlags::DIRECTORY, Mode::empty()).map(Self)
    }

    /// The place of a path, as an `O_PATH` descriptor.
    pub(super) fn find(&self, path: &Path) -> Result<OwnedFd> {
        let path = relative(path);
        loop {
            match openat2(&self.0, &path, PLACE, Mode::empty(), ResolveFlags::IN_ROOT) {
                // Something was renamed meanwhile; only that attempt failed.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// The directory at a path, as an `O_PATH` descriptor.
    pub(crate) fn directory(&self, path: &Path) -> Result<OwnedFd> {
        let place = self.find(path)?;
        if is_directory(&place)? { Ok(place) } else { Err(Errno::NOTDIR) }
    }

    /// The place of a path, made with its parents where nothing is.
    pub(super) fn find_or_create(&self, path: &Path, create: Create) -> Result<OwnedFd> {
        self.create_below(path, create, MAX_LINKS)
    }

    /// Makes a directory, with its parents, and opens it; none if something is there already.
    pub(crate) fn make_directory(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            found => return found.map(|_| None),
        }
        let place = self.find_or_create(path, Create::Directory)?;
        let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&place, ".", directory, Mode::empty()).map(Some)
    }

    /// The directory that a path's last part is in (made if missing), and that part.
    pub(super) fn parent<'path>(&self, path: &'path Path) -> Result<(OwnedFd, &'path OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.find_or_create(parent, Create::Directory)?, name))
    }

    fn create_below(&self, path: &Path, create: Create, links: u32) -> Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
        let path = relative(path);
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent_path = path.parent().unwrap_or(Path::new("."));
        let parent = self.create_below(parent_path, Create::Directory, MAX_LINKS)?;
        if let Ok(target) = readlinkat(&parent, name, Vec::new()) {
            use std::os::unix::ffi::OsStrExt;
            let target = Path::new(OsStr::from_bytes(target.to_bytes()));
            return self.create_below(&parent_path.join(target), create, links);
        }
        match create {
            Create::Directory => {
                match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                openat(&parent, name, PLACE | OFlags::NOFOLLOW, Mode::empty())
            }
            Create::File => {
                let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
                openat(&parent, name, PLACE | OFlags::NOFOLLOW, Mode::empty())
            }
        }
    }
}

/// Without the leading slash, which would also be right but hides the file name of `/`.
fn relative(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| !matches!(part, Component::RootDir));
    let relative: PathBuf = parts.collect();
    if relative.as_os_str().is_empty() { PathBuf::from(".") } else { relative }
}

/// Whether a place is a directory.
pub(super) fn is_directory(place: &OwnedFd) -> Result<bool> {
    let found = rustix::fs::statat(place, "", AtFlags::EMPTY_PATH)?;
    Ok(rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir())
}

#[cfg(test)]
mod tests {
    use super::{Create, Rooted, is_directory};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn links_never_lead_out() {
        let root = tempfile::tempdir().unwrap();
        symlink("/run", root.path().join("var-run")).unwrap();
        symlink("../../../../etc", root.path().join("up")).unwrap();
        let rooted = Rooted::open(root.path()).unwrap();
        let made = rooted.find_or_create(Path::new("/var-run/secrets/x"), Create::File).unwrap();
        assert!(!is_directory(&made).unwrap());
        assert!(root.path().join("run/secrets/x").is_file());
        rooted.find_or_create(Path::new("/up/deep"), Create::Directory).unwrap();
        assert!(root.path().join("etc/deep").is_dir());
    }

    #[test]
    fn a_loop_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        let rooted = Rooted::open(root.path()).unwrap();
        assert!(rooted.find_or_create(Path::new("/a/x"), Create::File).is_err());
    }

    #[test]
    fn the_root_itself_is_found() {
        let root = tempfile::tempdir().unwrap();
        let rooted = Rooted::open(root.path()).unwrap();
        assert!(is_directory(&rooted.find(Path::new("/")).unwrap()).unwrap());
    }
}
