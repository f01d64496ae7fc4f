//! What has to be undone when a sandbox's processes are gone. The journal has one JSON line for
//! each effect outside the sandbox's own directory, written before the effect. The line of a
//! process is written as soon as its number is known. Until then the process ends by itself with
//! its parent's socket.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A process that belongs to the sandbox.
    Process {
        /// Its number.
        pid: u32,
        /// When it was started, in clock ticks since boot: tells it from a later one.
        started: u64,
    },
    /// A file or socket.
    File {
        /// Where.
        path: PathBuf,
    },
    /// Taps and filters in a network namespace.
    Network {
        /// Where the namespace is, if it still is.
        path: PathBuf,
        /// What tells it from a later one at the same place.
        inode: u64,
    },
    /// A cgroup of the sandbox's processes.
    Cgroup {
        /// Its directory.
        path: PathBuf,
    },
}

/// An open journal, appended to.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Opens the journal at `path`, keeping what is in it.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        Ok(Self(options.open(path)?))
    }

    /// Adds an effect that is about to happen.
    ///
    /// # Errors
    /// What the filesystem answered; the effect must not happen then.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        // An earlier line may have been cut short (a full disk): this one must not be part of it.
        self.0.write_all(format!("\n{}\n", serde_json::to_string(entry)?).as_bytes())
    }
}

/// All effects, the latest first. A last line that was cut short by a crash is left out: its
/// effect never happened. No file means none.
///
/// # Errors
/// What the filesystem answered.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let mut entries: Vec<Entry> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    entries.reverse();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_come_back_latest_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let first = Entry::File { path: "/run/a".into() };
        let second = Entry::Process { pid: 7, started: 99 };
        Journal::open(&path).unwrap().add(&first).unwrap();
        Journal::open(&path).unwrap().add(&second).unwrap();
        assert_eq!(read(&path).unwrap(), [second, first]);
    }

    #[test]
    fn line_cut_short_does_not_take_the_next_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, "{\"file\":{\"pa").unwrap();
        let next = Entry::Process { pid: 7, started: 99 };
        Journal::open(&path).unwrap().add(&next).unwrap();
        assert_eq!(read(&path).unwrap(), [next]);
    }

    #[test]
    fn line_cut_short_by_a_crash_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, "{\"file\":{\"path\":\"/a\"}}\n{\"file\":{\"pa").unwrap();
        assert_eq!(read(&path).unwrap(), [Entry::File { path: "/a".into() }]);
        assert!(read(&dir.path().join("none")).unwrap().is_empty());
    }
}
