//! The lock on a sandbox's place. A process that starts the sandbox's shim holds it from its first
//! look at the socket until the shim serves. Without the lock, a socket that is bound and not
//! served yet would look like a dead one. A shim that ends holds it from before its socket goes
//! until all else has gone. Without the lock, a start of the same name would find half of it. The
//! lock is one file for each sandbox, beside its directory. The file is there only while somebody
//! holds the lock.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::StateDir;

/// How long an end of a sandbox waits for a start of it that is under way, which may hang.
pub const STARTING: Duration = Duration::from_secs(5);

/// The lock, held. Dropping it lets it go; so does the end of the last process that has it.
#[derive(Debug)]
pub struct PlaceLock {
    /// None once another process holds it on.
    file: Option<File>,
    path: PathBuf,
}

impl StateDir {
    fn lock_file(&self) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.0.file_name().unwrap_or_default());
        name.push(".lock");
        self.0.with_file_name(name)
    }

    /// Takes the lock, waiting at most `limit` for a start or an end of the same sandbox.
    ///
    /// # Errors
    /// What the filesystem answered; that whoever has it does not let it go, with its process.
    pub fn lock(&self, limit: Duration) -> io::Result<PlaceLock> {
        let end = Instant::now() + limit;
        loop {
            let file = self.open_lock()?;
            let left = end.saturating_duration_since(Instant::now());
            let Some(file) = locked(file, left)? else { return Err(self.held(limit)) };
            if let Some(lock) = self.taken(file)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn try_lock(&self) -> io::Result<Option<PlaceLock>> {
        let file = self.open_lock()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.taken(file),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes over the lock from the process that started this one.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn inherit_lock(&self, file: OwnedFd) -> io::Result<PlaceLock> {
        let mut lock = PlaceLock { file: Some(file.into()), path: self.lock_file() };
        lock.sign()?;
        Ok(lock)
    }

    fn open_lock(&self) -> io::Result<File> {
        let path = self.lock_file();
        loop {
            if let Some(namespace) = path.parent() {
                DirBuilder::new().mode(0o700).recursive(true).create(namespace)?;
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            match options.open(&path) {
                // The end of another sandbox removes an empty directory of its namespace.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
    }

    /// The lock, if its file is still the one that others would lock.
    fn taken(&self, file: File) -> io::Result<Option<PlaceLock>> {
        let path = self.lock_file();
        let own = file.metadata()?;
        let same = match std::fs::metadata(&path) {
            Ok(found) => (found.dev(), found.ino()) == (own.dev(), own.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !same {
            return Ok(None);
        }
        let mut lock = PlaceLock { file: Some(file), path };
        lock.sign()?;
        Ok(Some(lock))
    }

    fn held(&self, limit: Duration) -> io::Error {
        let path = self.lock_file();
        let holder = std::fs::read_to_string(&path).unwrap_or_default();
        let text = format!(
            "a start or the end of the same sandbox holds {} for more than {} s (process {}); if \
             that hangs, kill it",
            path.display(),
            limit.as_secs(),
            holder.trim()
        );
        io::Error::new(io::ErrorKind::TimedOut, text)
    }
}

/// Waits for the lock on a thread of its own: the kernel's wait knows no limit. A thread that
/// waits in vain ends with this process, and lets go at once of what it gets too late.
fn locked(file: File, limit: Duration) -> io::Result<Option<File>> {
    let (told, taken) = mpsc::channel();
    std::thread::Builder::new().name("lock".into()).spawn(move || {
        let locked = rustix::fs::flock(&file, FlockOperation::LockExclusive);
        let _late = told.send(locked.map(|()| file));
    })?;
    match taken.recv_timeout(limit) {
        Ok(locked) => Ok(Some(locked?)),
        Err(_) => Ok(None),
    }
}

impl PlaceLock {
    /// Says which process holds it, for people.
    fn sign(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    }

    /// The lock for another process, which holds it on from then.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn share(&self) -> io::Result<OwnedFd> {
        match &self.file {
            Some(file) => Ok(file.try_clone()?.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Leaves the lock to the process that got it by [`Self::share`].
    pub fn leave(mut self) {
        self.file = None;
    }
}

impl Drop for PlaceLock {
    fn drop(&mut self) {
        if self.file.is_none() {
            return;
        }
        // First the name, then the lock: whoever waited for it sees that it has to look again.
        let _gone = std::fs::remove_file(&self.path);
        if let Some(namespace) = self.path.parent() {
            // Fails while sandboxes are in it, as it should.
            let _other_sandboxes = std::fs::remove_dir(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::state;
    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn second_start_waits_for_the_first_and_then_has_the_lock_alone() {
        let (dir, state) = state();
        let first = state.lock(SOON).unwrap();
        let left = PlaceLock { file: Some(File::from(first.share().unwrap())), path: "".into() };
        first.leave();
        let (told, taken) = mpsc::channel();
        let waiting = state.clone();
        let second = std::thread::spawn(move || told.send(waiting.lock(SOON).unwrap()).unwrap());
        assert!(taken.recv_timeout(Duration::from_millis(100)).is_err(), "it did not wait");
        drop(state.inherit_lock(left.share().unwrap()).unwrap());
        assert!(taken.recv_timeout(Duration::from_millis(100)).is_err(), "it did not wait");
        drop(left);
        let lock = taken.recv().unwrap();
        second.join().unwrap();
        assert!(state.try_lock().unwrap().is_none());
        drop(lock);
        assert!(!dir.path().join("ns").exists());
    }

    #[test]
    fn start_that_hangs_is_named_and_stops_no_other_sandbox() {
        let (dir, state) = state();
        let _hanging = state.lock(SOON).unwrap();
        let error = state.lock(Duration::from_millis(50)).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(error.contains("/ns/.id.lock") && error.contains(&process), "{error}");
        let other = StateDir::at(&dir.path().join("ns/other"));
        drop(other.lock(Duration::from_millis(50)).unwrap());
        assert!(dir.path().join("ns").exists());
    }

    #[test]
    fn lock_that_a_dead_start_left_is_no_obstacle() {
        let (dir, state) = state();
        drop(state.lock(SOON).unwrap().file.take());
        assert!(dir.path().join("ns/.id.lock").exists());
        drop(state.lock(Duration::from_millis(50)).unwrap());
        assert!(!dir.path().join("ns").exists());
    }
}
