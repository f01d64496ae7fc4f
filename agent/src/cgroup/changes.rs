//! Waiting for changes of a cgroup's event files by inotify(7), as the kernel's documentation
//! of cgroup v2 tells ("File modified events").

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::retry_on_intr;
use tokio::io::unix::AsyncFd;

use super::{CgroupError, read};
use crate::sys;

/// What `cgroup.events` says of a cgroup without processes.
pub(super) const EMPTY: &str = "populated 0";

/// A watched file. Changes since its creation are never missed.
#[derive(Debug)]
pub(crate) struct Changes {
    directory: PathBuf,
    file: &'static str,
    events: AsyncFd<OwnedFd>,
}

impl Changes {
    /// Begins to watch a file of the cgroup at `directory`.
    pub(super) fn watch(directory: &Path, file: &'static str) -> Result<Self, CgroupError> {
        let directory = directory.to_owned();
        match watch(&directory.join(file)) {
            Ok(events) => Ok(Self { directory, file, events }),
            Err(source) => Err(CgroupError::Watch { file, path: directory, source }),
        }
    }

    /// The file's text now.
    pub(super) fn text(&self) -> Result<String, CgroupError> {
        read(&self.directory, self.file)
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// The file is gone.
    pub(crate) async fn next(&self) -> Result<(), CgroupError> {
        self.wait().await.map_err(|source| self.failed(source))
    }

    async fn wait(&self) -> io::Result<()> {
        // Room for several events, whose content does not matter.
        let mut buffer = [0; 256];
        loop {
            let mut ready = self.events.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer)?)) {
                Ok(result) => return result.map(drop),
                Err(_would_block) => {}
            }
        }
    }

    /// Waits until the file's text is as wanted.
    pub(super) async fn until(
        &self,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), CgroupError> {
        let waiting = async {
            while !wanted(&self.text()?) {
                self.next().await?;
            }
            Ok(())
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(result) => result,
            Err(_) => Err(self.failed(io::ErrorKind::TimedOut.into())),
        }
    }

    fn failed(&self, source: io::Error) -> CgroupError {
        CgroupError::Watch { file: self.file, path: self.directory.clone(), source }
    }
}

/// Waits on this thread until no process is in the cgroup or below.
///
/// # Errors
/// One is still there after `patience`.
pub(super) fn wait_until_empty(directory: &Path, patience: Duration) -> Result<(), CgroupError> {
    const FILE: &str = "cgroup.events";
    let failed = |source| CgroupError::Watch { file: FILE, path: directory.to_owned(), source };
    let path = directory.join(FILE);
    let mut events =
        File::open(&path).map_err(|source| CgroupError::Read { path: path.clone(), source })?;
    let deadline = Instant::now() + patience;
    loop {
        let mut text = String::new();
        events.rewind().and_then(|()| events.read_to_string(&mut text)).map_err(failed)?;
        if text.lines().any(|line| line == EMPTY) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        // What has been read since its last change announces the next one so (kernfs).
        let mut changed = [PollFd::new(&events, PollFlags::PRI)];
        let left = Timespec::try_from(left).map_err(|error| failed(io::Error::other(error)))?;
        retry_on_intr(|| poll(&mut changed, Some(&left))).map_err(|error| failed(error.into()))?;
    }
}

fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let events = inotify::init(flags)?;
    inotify::add_watch(&events, path, inotify::WatchFlags::MODIFY)?;
    sys::watch::watch(events)
}
