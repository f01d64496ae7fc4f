//! Who a sandbox belongs to, as its directory says; and the sandboxes that nobody clears up after.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::StateDir;
use crate::journal::{self, Effects, Entry};
use crate::spawn;

/// The daemon on whose behalf a sandbox runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Owner {
    /// A containerd. It clears up after a shim that has died, by the shim's `delete`.
    Containerd {
        /// Path of its socket.
        address: String,
    },
    /// CRI-O, which never clears up: each start does, see [`StateDir::sweep`].
    CriO,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Containerd { address } => write!(f, "the containerd at {address:?}"),
            Self::CriO => f.write_str("CRI-O"),
        }
    }
}

impl StateDir {
    fn owner_file(&self) -> std::path::PathBuf {
        self.0.join("owner")
    }

    /// Notes who the sandbox belongs to.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn set_owner(&self, owner: &Owner) -> io::Result<()> {
        std::fs::write(self.owner_file(), serde_json::to_string(owner)?)
    }

    /// Who the sandbox belongs to; nobody where there is none.
    ///
    /// # Errors
    /// What the filesystem answered, or that the record is damaged, each with the file's name.
    pub fn owner(&self) -> io::Result<Option<Owner>> {
        let path = self.owner_file();
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| {
                io::Error::new(error.kind(), format!("reading {}: {error}", path.display()))
            })?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let (path, directory) = (path.display(), self.0.display());
            let text = format!(
                "{path} does not say whose the sandbox is ({error}); if no process of its journal \
                 lives, remove {directory}"
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    /// Who the sandbox belongs to, if that is not `own` and a process of the sandbox still lives.
    ///
    /// # Errors
    /// As [`Self::owner`], and a journal that can't be read or is damaged: whether a process lives
    /// is not known then.
    pub fn foreign_owner(&self, own: &Owner) -> io::Result<Option<Owner>> {
        let Some(owner) = self.owner()?.filter(|owner| owner != own) else { return Ok(None) };
        let effects = journal::read(&self.0.join("journal"))?;
        let lives = effects.all.iter().any(|entry| match entry {
            Entry::Process { pid, started } => spawn::start_time(*pid) == Some(*started),
            _ => false,
        });
        if !lives {
            effects.whole?;
        }
        Ok(lives.then_some(owner))
    }

    /// Clears up after the other sandboxes of this one's namespace whose daemon never does and
    /// whose shim has died. Begins with no further one after `limit`; each takes seconds at most.
    /// What can't be done now is left to the next start, as is what another start is busy with.
    pub fn sweep(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let entries = self.0.parent().and_then(|namespace| std::fs::read_dir(namespace).ok());
        let others = entries.into_iter().flatten().flatten().map(|entry| Self(entry.path()));
        for other in others.filter(|other| other != self && other.is_abandoned()) {
            if Instant::now() > end {
                return;
            }
            // Its own start may be under way: it is not abandoned then, and holds the lock.
            if let Ok(Some(_lock)) = other.try_lock()
                && other.is_abandoned()
            {
                let _later = other.destroy();
            }
        }
    }

    fn is_abandoned(&self) -> bool {
        if !matches!(self.owner(), Ok(Some(Owner::CriO))) {
            return false;
        }
        // A damaged journal may have lost the shim's line.
        let Ok(Effects { all, whole: Ok(()) }) = journal::read(&self.0.join("journal")) else {
            return false;
        };
        // The shim notes itself before it does anything; the latest entry comes first.
        let shim = all.iter().rev().find_map(|entry| match entry {
            Entry::Process { pid, started } => Some((*pid, *started)),
            _ => None,
        });
        shim.is_none_or(|(pid, started)| !spawn::lives(pid, started))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{own_process, state};
    use super::*;

    fn containerd(name: &str) -> Owner {
        Owner::Containerd { address: format!("/run/{name}.sock") }
    }

    #[test]
    fn sandbox_of_another_daemon_is_told_as_long_as_it_lives() {
        let (_dir, state) = state();
        let mut journal = state.create().unwrap();
        state.set_owner(&containerd("a")).unwrap();
        assert_eq!(state.foreign_owner(&containerd("b")).unwrap(), None);
        journal.add(&own_process()).unwrap();
        assert_eq!(state.foreign_owner(&containerd("a")).unwrap(), None);
        let owner = state.foreign_owner(&Owner::CriO).unwrap().unwrap();
        assert_eq!(owner, containerd("a"));
        assert_eq!(owner.to_string(), "the containerd at \"/run/a.sock\"");
    }

    #[test]
    fn damaged_records_are_named_and_nothing_is_taken_for_dead() {
        let (_dir, state) = state();
        state.create().unwrap();
        state.set_owner(&containerd("a")).unwrap();
        std::fs::write(state.path().join("journal"), "\0\0\0\n").unwrap();
        let error = state.foreign_owner(&Owner::CriO).unwrap_err().to_string();
        assert!(error.contains("journal") && error.contains("damaged"), "{error}");
        std::fs::write(state.path().join("owner"), "/run/a.sock").unwrap();
        let error = state.owner().unwrap_err().to_string();
        let directory = state.path().display().to_string();
        assert!(error.contains("/owner does not say") && error.contains(&directory), "{error}");
        state.set_owner(&Owner::CriO).unwrap();
        assert!(!state.is_abandoned());
    }

    #[test]
    fn sandbox_without_shim_and_without_daemon_is_swept() {
        let (dir, own) = state();
        let living = own_process();
        let mut gone = std::process::Command::new("/bin/true").spawn().unwrap();
        let dead = spawn::start_time(gone.id()).unwrap();
        let dead = Entry::Process { pid: gone.id(), started: dead };
        let sandbox = |name: &str, owner: &Owner, entries: &[&Entry]| {
            let state = StateDir(dir.path().join("ns").join(name));
            let mut journal = state.create().unwrap();
            state.set_owner(owner).unwrap();
            entries.iter().for_each(|entry| journal.add(entry).unwrap());
            state
        };
        own.create().unwrap();
        own.set_owner(&Owner::CriO).unwrap();
        let left = sandbox("left", &Owner::CriO, &[&dead]);
        let starting = sandbox("starting", &Owner::CriO, &[]);
        let others = [
            sandbox("living", &Owner::CriO, &[&living, &dead]),
            sandbox("containerds", &containerd("c"), &[&dead]),
            StateDir(dir.path().join("ns/strange")),
        ];
        std::fs::create_dir(others[2].path()).unwrap();
        // Dead, and not waited for.
        let ended = || !spawn::lives(gone.id(), spawn::start_time(gone.id()).unwrap());
        while !ended() {
            std::thread::yield_now();
        }
        let lock = starting.try_lock().unwrap().unwrap();
        own.sweep(Duration::from_secs(20));
        assert!(!left.path().exists());
        assert!(starting.path().exists(), "somebody is starting it");
        drop(lock);
        own.sweep(Duration::from_secs(20));
        assert!(!starting.path().exists());
        assert!(others.iter().all(|other| other.path().exists()) && own.path().exists());
        gone.wait().unwrap();
    }
}
