//! Waiting for changes of a cgroup's event files by inotify(7), as the kernel's documentation
//! of cgroup v2 tells ("File modified events").

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::{CgroupError, read};
use crate::sys;

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

    /// Processes that the kernel killed for want of memory, if this is `memory.events`.
    pub(crate) fn oom_kills(&self) -> Result<u64, CgroupError> {
        self.text().map(|text| super::oom_kills_in(&text))
    }

    /// The file's text now.
    fn text(&self) -> Result<String, CgroupError> {
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

fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let events = inotify::init(flags)?;
    inotify::add_watch(&events, path, inotify::WatchFlags::MODIFY)?;
    sys::watch::watch(events)
}
