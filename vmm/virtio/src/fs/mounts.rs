//! The mounts of the shared directory, of which one request may mean all.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, syncfs};

/// Bytes of the table of mounts that are read at once.
const PART: usize = 16 << 10;

/// Fields of a line of `mountinfo` up to the mount's path (`proc(5)`).
const FIELDS: usize = 5;

/// The mounts at and below a directory.
#[derive(Debug)]
pub(super) struct Mounts {
    table: File,
    root: PathBuf,
}

impl Mounts {
    /// Opens the table of this process's mounts.
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        Ok(Self { table: File::open("/proc/self/mountinfo")?, root: root.to_owned() })
    }

    /// Writes what the host has in memory of every file system in the directory to its disk.
    /// The guest can only ask for the one that the directory itself is in.
    ///
    /// # Errors
    /// The first of a file system that could not be written. One that can't be opened, such as
    /// a network's whose server is gone, is left out.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut result = Ok(());
        for path in below(&self.table()?, &self.root) {
            if let Ok(file) = self.open(&path) {
                result = result.and(syncfs(&file));
            }
        }
        Ok(result?)
    }

    fn table(&self) -> io::Result<Vec<u8>> {
        let (mut table, mut part) = (Vec::new(), vec![0; PART]);
        loop {
            match self.table.read_at(&mut part, table.len() as u64)? {
                0 => return Ok(table),
                len => table.extend_from_slice(&part[..len]),
            }
        }
    }

    /// Opens what is mounted at a path below the root, through no link that the guest may have
    /// made meanwhile, and nothing that opening does something to.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &self.root, directory, Mode::empty())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(root, path, flags, Mode::empty(), resolve)?;
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Directory | FileType::RegularFile => {}
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        let again = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(CWD, again, flags, Mode::empty())?)
    }
}

/// The root itself, as an empty path, and one mount below `root` of each other device.
fn below(table: &[u8], root: &Path) -> Vec<PathBuf> {
    let mut devices = Vec::new();
    let mut paths = vec![PathBuf::new()];
    for line in table.split(|byte| *byte == b'\n') {
        let fields: Vec<_> = line.split(|byte| *byte == b' ').take(FIELDS).collect();
        let [_, _, device, _, path] = fields[..] else { continue };
        let path = PathBuf::from(OsString::from_vec(unescape(path)));
        let Ok(path) = path.strip_prefix(root) else { continue };
        if !devices.contains(&device) {
            devices.push(device);
            paths.push(path.to_owned());
        }
    }
    paths
}

/// A path of the table: white space and backslashes are `\` and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_below_the_root_is_found_once() {
        let table = b"20 1 0:30 / / rw - tmpfs t rw\n\
            21 20 8:1 /a /share rw - ext4 d rw\n\
            22 21 8:2 / /share/one\\040two rw master:3 - ext4 e rw\n\
            23 21 8:2 /x /share/again rw - ext4 e rw\n\
            24 20 8:3 / /shared rw - ext4 f rw\n\n";
        let found = below(table, Path::new("/share"));
        assert_eq!(found, ["", "", "one two"].map(PathBuf::from));
    }

    #[test]
    fn nothing_is_opened_through_links_or_as_a_device() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        std::fs::write(folder.path().join("file"), b"").unwrap();
        let mounts = Mounts::new(folder.path()).unwrap();
        assert!(mounts.open(Path::new("")).is_ok());
        assert!(mounts.open(Path::new("file")).is_ok());
        assert!(mounts.open(Path::new("link")).is_err());
        assert!(mounts.open(Path::new("link/passwd")).is_err());
        assert!(mounts.open(Path::new("../..")).is_err());
        mounts.sync().unwrap();
    }
}
