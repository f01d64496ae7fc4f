//! Paths in the tree of an image. A stranger made it, so its root is the bound of all links.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use crate::root::opened_at;

/// How far a link may lead (openat2(2)).
const BOUND: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Reads a file below `root`, whose tree is a stranger's: links lead nowhere outside, and nothing
/// but a file is opened. None if it is missing.
///
/// # Errors
/// What the kernel answered; that it is no file, or has more than `most` bytes.
pub fn read_below(root: &Path, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let root = opened_at(root)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // What it is shows before it is opened: the opening of a device can do something.
    let found = match openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), BOUND) {
        Ok(found) => found,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let facts = rustix::fs::fstat(&found)?;
    if rustix::fs::FileType::from_raw_mode(facts.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let name = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = File::from(rustix::fs::openat(CWD, name, flags, Mode::empty())?);
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("over {most} bytes")));
    }
    Ok(Some(text))
}

/// Where a directory below `root` is, without links. The tree must be one that nobody can change:
/// only then does the answer stay true.
///
/// # Errors
/// What the kernel answered: that there is none, or that it is no directory.
pub fn directory_below(root: &Path, path: &str) -> io::Result<PathBuf> {
    let root = opened_at(root)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = openat2(&root, path, flags, Mode::empty(), BOUND)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}
