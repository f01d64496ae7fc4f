//! News of a configuration directory, which may not be there yet, or go and come again. Each of
//! its parents is watched for the name of the next one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What changes the content of a directory, or which files it has.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Most directories in the directory that are watched.
const MAX_FOLDERS: usize = 64;

/// Room for many events: what does not fit is read the next time.
const BUFFER: usize = 4096;

/// Tells once that something has changed in a directory or on the way to it. Whoever wants to know
/// more makes a new one, and looks at the directory then.
pub(crate) struct Watch {
    fd: AsyncFd<OwnedFd>,
    /// Directories on the way, by their number: only this name in them is of interest.
    parents: Vec<(i32, OsString)>,
}

impl Watch {
    /// Watches `directory` and the directories in it, which may hold plugins of a network.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut parents = Vec::new();
        let whole = std::path::absolute(directory)?;
        let steps: Vec<&Path> = whole.ancestors().collect();
        // From the root on: what appears behind a look at it is an event.
        for pair in steps.windows(2).rev() {
            let [child, parent] = pair else { continue };
            let Some(number) = add(&fd, parent)? else { break };
            parents.push((number, child.file_name().unwrap_or_default().to_owned()));
        }
        if let Some(number) = add(&fd, &whole)? {
            // A link may lead to one of the parents, which has one number only.
            parents.retain(|(other, _)| *other != number);
            let entries = std::fs::read_dir(&whole).into_iter().flatten().flatten();
            let folders = entries.filter(|entry| entry.path().is_dir()).take(MAX_FOLDERS);
            for folder in folders {
                add(&fd, &folder.path())?;
            }
        }
        let fd = host::spawn::register(fd, Interest::READABLE)?;
        Ok(Self { fd, parents })
    }

    /// Waits for a change.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            if drain(ready.get_inner(), &self.parents)? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

/// Watches a directory if it is there.
fn add(fd: &OwnedFd, path: &Path) -> io::Result<Option<i32>> {
    match inotify::add_watch(fd, path, CHANGES) {
        Ok(number) => Ok(Some(number)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads all events; whether one of them is of interest.
fn drain(fd: impl AsFd, parents: &[(i32, OsString)]) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(fd, &mut buffer);
    let mut news = false;
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return Ok(news),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        let parent = parents.iter().find(|(number, _)| *number == event.wd());
        news |= match (parent, name) {
            // A queue that ran over has lost events of anything.
            (Some((_, wanted)), Some(name)) => wanted == name,
            _ => !event.events().contains(ReadFlags::IGNORED),
        };
    }
}
