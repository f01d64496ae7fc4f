//! Reads the two files below a root that is not the caller's. What is there can be anything:
//!
//! | in the file's place | what happens |
//! |---|---|
//! | nothing | nobody is listed |
//! | a link | it is followed inside the root (openat2(2), `RESOLVE_IN_ROOT`) |
//! | a link of `/proc`, which leads to open files of any process | refused |
//! | a pipe, device, socket or directory | refused without having been opened |
//! | a file of the kernel, which has no size and may never end | read as empty |
//! | a file of any length | read up to the size that it had, if that is allowed |

use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use crate::error::{AccountError, MAX_BYTES};

/// How often a file is looked for while others rename what is on the way. The attack: a container
/// that renames without end while an exec looks.
const ATTEMPTS: u32 = 64;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The users and groups of an image, in the bytes of its two files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// passwd(5), [`MAX_BYTES`] at most.
    pub passwd: Vec<u8>,
    /// group(5), [`MAX_BYTES`] at most.
    pub group: Vec<u8>,
}

impl Files {
    /// Reads both files below the directory `root`. One that is not there is empty.
    ///
    /// # Errors
    /// [`AccountError::TooLong`], [`AccountError::Irregular`] and [`AccountError::Read`], with the
    /// file's name.
    pub fn read(root: BorrowedFd<'_>) -> Result<Self, AccountError> {
        Ok(Self { passwd: read(root, PASSWD)?, group: read(root, GROUP)? })
    }

    /// Reads the users alone, for [`Self::home`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn users(root: BorrowedFd<'_>) -> Result<Self, AccountError> {
        Ok(Self { passwd: read(root, PASSWD)?, group: Vec::new() })
    }
}

fn read(root: BorrowedFd<'_>, path: &'static str) -> Result<Vec<u8>, AccountError> {
    // A device is not even opened: that alone may do something.
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        found => size(&found.map_err(failed(path))?, path)?,
    };
    // It may be another now. Then it is one that the container could open as well.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(root, path, flags).map_err(failed(path))?;
    let size = size(&file, path)?;
    let mut content = Vec::new();
    let read = File::from(file).take(size).read_to_end(&mut content);
    read.map_err(|source| AccountError::Read { path, source })?;
    Ok(content)
}

fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 1..=ATTEMPTS;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if attempts.next().is_some() => {}
            other => return other,
        }
    }
}

/// The size of a file that may be read, in bytes.
fn size(file: &OwnedFd, path: &'static str) -> Result<u64, AccountError> {
    let Stat { st_mode, st_size, .. } = fstat(file).map_err(failed(path))?;
    if FileType::from_raw_mode(st_mode) != FileType::RegularFile {
        return Err(AccountError::Irregular(path));
    }
    u64::try_from(st_size).ok().filter(|size| *size <= MAX_BYTES).ok_or(AccountError::TooLong(path))
}

fn failed(path: &'static str) -> impl FnOnce(Errno) -> AccountError {
    move |error| AccountError::Read { path, source: error.into() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{CWD, mknodat};

    use super::*;

    /// What is read below a root that `make` fills.
    fn found(make: impl FnOnce(&Path)) -> Result<Files, String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        make(root.path());
        let root = File::open(root.path()).unwrap();
        Files::read(root.as_fd()).map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_read_where_they_are() {
        assert_eq!(found(|_| {}), Ok(Files::default()));
        assert_eq!(found(|root| std::fs::remove_dir(root.join("etc")).unwrap()), found(|_| {}));
        let files = found(|root| {
            std::fs::write(root.join("etc/passwd"), "a").unwrap();
            std::fs::write(root.join("etc/group"), b"\xff").unwrap();
        });
        assert_eq!(files, Ok(Files { passwd: b"a".to_vec(), group: vec![0xff] }));
    }

    #[test]
    fn links_stay_inside_the_root() {
        let files = found(|root| {
            std::fs::create_dir(root.join("store")).unwrap();
            std::fs::write(root.join("store/users"), "inside").unwrap();
            symlink("/store/users", root.join("etc/passwd")).unwrap();
            // The host has one there, the root has none.
            symlink("../../../../../../etc/hostname", root.join("etc/group")).unwrap();
        });
        assert_eq!(files, Ok(Files { passwd: b"inside".to_vec(), group: Vec::new() }));
        let endless = found(|root| symlink("passwd", root.join("etc/passwd")).unwrap());
        assert!(endless.unwrap_err().starts_with("reading /etc/passwd of the image: "));
    }

    #[test]
    fn link_of_proc_leads_nowhere() {
        let secret = tempfile::tempfile().unwrap();
        let link = format!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&secret));
        let proc = File::open("/proc").unwrap();
        // The way there is right; only the last step is one that the kernel makes by itself.
        assert!(rustix::fs::readlinkat(&proc, &*link, Vec::new()).is_ok());
        let opened = open(proc.as_fd(), &link, OFlags::PATH);
        assert!(matches!(opened, Err(Errno::LOOP | Errno::XDEV)), "{opened:?}");
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let pipe = |root: &Path| {
            let path = root.join("etc/passwd");
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        };
        let directory = |root: &Path| std::fs::create_dir(root.join("etc/passwd")).unwrap();
        let socket = |root: &Path| {
            std::os::unix::net::UnixListener::bind(root.join("etc/passwd")).map(drop).unwrap();
        };
        let refused = Err("/etc/passwd of the image is no regular file".to_owned());
        assert_eq!(found(pipe), refused);
        assert_eq!(found(directory), refused);
        assert_eq!(found(socket), refused);
        // A device, where this test may make none.
        let dev = File::open("/dev").unwrap();
        let null = open(dev.as_fd(), "null", OFlags::PATH).unwrap();
        assert!(matches!(size(&null, PASSWD), Err(AccountError::Irregular(PASSWD))));
    }

    #[test]
    fn file_may_be_as_long_as_the_limit_and_no_longer() {
        let sized = |size: u64| {
            found(|root| File::create(root.join("etc/group")).unwrap().set_len(size).unwrap())
        };
        assert_eq!(sized(MAX_BYTES).unwrap().group.len() as u64, MAX_BYTES);
        let refused = Err("/etc/group of the image is over 8388608 bytes".to_owned());
        assert_eq!(sized(MAX_BYTES + 1), refused);
        assert_eq!(sized(1 << 40), refused, "as a hole, which takes no room");
    }

    #[test]
    fn file_of_the_kernel_is_empty() {
        let proc = File::open("/proc/self").unwrap();
        assert_eq!(read(proc.as_fd(), "/status").unwrap(), b"");
    }
}
