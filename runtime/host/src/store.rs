//! The directory of a sandbox on the host, `/run/cuddy/<namespace>/<sandbox id>/`. This module
//! knows what is in it. It undoes all of that without any help of the sandbox's processes.

mod lock;
mod owner;
mod share;
mod undo;

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use api::{Namespace, SandboxId};

pub use self::lock::{PlaceLock, STARTING};
pub use self::owner::Owner;
use crate::journal::Journal;

/// Where all sandboxes' directories are.
pub const ROOT: &str = "/run/cuddy";

/// Environment variable that names another root, for tests.
pub const ROOT_VARIABLE: &str = "CUDDY_RUN";

/// Where all of it is now.
pub fn root() -> PathBuf {
    std::env::var_os(ROOT_VARIABLE).map_or_else(|| ROOT.into(), PathBuf::from)
}

/// Most bytes of the file of steps, some 300 of them.
const MAX_TIMELINE: u64 = 16 << 10;

/// The directory of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The directory's place; it need not exist.
    pub fn new(namespace: &Namespace, sandbox: &SandboxId) -> Self {
        Self(root().join(namespace.as_str()).join(sandbox.as_str()))
    }

    /// One at any place, for tests.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directories and files of the machine's [`Share`], all of them empty: mount points. The
    /// share shows them read-only; they are made and removed here, where nothing is ever mounted
    /// and no guest can come between.
    pub fn scaffold(&self) -> PathBuf {
        self.0.join("scaffold")
    }

    /// The socket that leads to the guest's vsock ports.
    pub fn vsock(&self) -> PathBuf {
        self.0.join("vsock.sock")
    }

    /// The number of the VMM's process, for people.
    pub fn vmm_pid(&self) -> PathBuf {
        self.0.join("vmm.pid")
    }

    /// How long the machine took from exec until its agent was ready, in microseconds, for
    /// people; its modification time says when that was.
    pub fn ready(&self) -> PathBuf {
        self.0.join("ready-us")
    }

    /// Where the sandbox's steps are noted, see [`Self::step`].
    pub fn timeline(&self) -> PathBuf {
        self.0.join("timeline")
    }

    /// Notes that the sandbox got as far as `what`, for those who ask where time goes: a line
    /// `NANOSECONDS WHAT`, of the monotonic clock. Steps beyond [`MAX_TIMELINE`] bytes are not
    /// noted: a pod may start containers for years.
    pub fn step(&self, what: &str) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let line = format!("{} {what}\n", now.tv_sec * 1_000_000_000 + now.tv_nsec);
        let noted = OpenOptions::new().append(true).create(true).open(self.timeline());
        // A picture may lack it; the pod must not.
        let _noted = noted.and_then(|mut file| {
            if file.metadata()?.len() < MAX_TIMELINE {
                file.write_all(line.as_bytes())
            } else {
                Ok(())
            }
        });
    }

    /// A file that is there while the sandbox ends in order, which a flush may delay.
    pub fn closing(&self) -> PathBuf {
        self.0.join("closing")
    }

    /// The guest's console output.
    pub fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// What the VMM wrote to its standard error.
    pub fn vmm_log(&self) -> PathBuf {
        self.0.join("vmm.log")
    }

    /// The file of the pod that its containers see at `destination`, with new content.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn write_file(&self, destination: &str, text: &str) -> io::Result<PathBuf> {
        let directory = self.0.join("etc");
        DirBuilder::new().mode(0o755).recursive(true).create(&directory)?;
        let name = Path::new(destination).file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let path = directory.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        Ok(path)
    }

    /// Makes the directory, for its owner's eyes only, and opens its journal.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn create(&self) -> io::Result<Journal> {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.0)?;
        self.journal()
    }

    /// Opens the journal.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn journal(&self) -> io::Result<Journal> {
        Journal::open(&self.0.join("journal"))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Entry;
    use crate::spawn;

    /// A sandbox `id` in the namespace `ns` below a directory that goes with the test.
    pub(super) fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir(dir.path().join("ns/id"));
        (dir, state)
    }

    /// An entry for the process of the tests.
    pub(super) fn own_process() -> Entry {
        let pid = std::process::id();
        Entry::Process { pid, started: spawn::start_time(pid).unwrap() }
    }
}
