//! A container's log as it grows: inotify tells of more, and the file may be replaced by a new one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::log_record::lines;

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 20;

/// A log.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    kept: Vec<u8>,
}

impl LogFile {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), file: File::open(path)?, kept: Vec::new() })
    }

    /// The next whole lines; none if there are no more now.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Vec<u8>>> {
        loop {
            // Looked at before: what is read behind it is all of a file that was replaced.
            let next = self.replaced()?;
            let read = (&mut self.file).take(PIECE).read_to_end(&mut self.kept)?;
            let lines = lines(&mut self.kept);
            if !lines.is_empty() {
                return Ok(lines);
            }
            match (read, next) {
                (0, None) => return Ok(lines),
                (0, Some(next)) => (self.file, self.kept) = (next, Vec::new()),
                _ => {}
            }
        }
    }

    /// The file that took its place, if one did.
    fn replaced(&self) -> io::Result<Option<File>> {
        let next = match File::open(&self.path) {
            // It was moved away, and the new one is about to come.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            next => next?,
        };
        let (old, new) = (self.file.metadata()?, next.metadata()?);
        let same = (old.dev(), old.ino()) == (new.dev(), new.ino());
        Ok((!same).then_some(next))
    }
}

/// Tells that something in a log's directory has changed.
#[derive(Debug)]
pub(crate) struct Changes {
    events: Receiver,
}

impl Changes {
    /// Watches the directory of the log at `path` from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, directory, what)?;
        // It is read as a pipe is, and no pipe.
        Ok(Self { events: Receiver::from_owned_fd_unchecked(inotify)? })
    }

    /// Waits for a change since the last one that was told.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        self.events.read(&mut buffer).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn log_is_followed_into_the_file_that_replaces_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut old = File::create(&path).unwrap();
        old.write_all(b"one\ntw").unwrap();
        let mut log = LogFile::open(&path).unwrap();
        let mut changes = Changes::of(&path).unwrap();
        assert_eq!(log.read().unwrap(), [b"one".to_vec()]);
        assert!(log.read().unwrap().is_empty());
        old.write_all(b"o\n").unwrap();
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, changes.next()).await.unwrap().unwrap();
        assert_eq!(log.read().unwrap(), [b"two".to_vec()]);
        std::fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        old.write_all(b"three\n").unwrap();
        File::create(&path).unwrap().write_all(b"four\n").unwrap();
        assert_eq!(log.read().unwrap(), [b"three".to_vec()]);
        assert_eq!(log.read().unwrap(), [b"four".to_vec()]);
        assert!(log.read().unwrap().is_empty());
    }
}
