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
    /// A cgroup of the sandbox's processes, in one hierarchy.
    Cgroup {
        /// Its directory there.
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

/// What a journal tells.
#[derive(Debug)]
pub struct Effects {
    /// All effects that can be read, the latest first.
    pub all: Vec<Entry>,
    /// An error for the first line that is neither an effect nor one that was cut short: the file
    /// was damaged, and an effect may be missing.
    pub whole: io::Result<()>,
}

/// Reads all effects. A line that was cut short, by a crash or a full disk, is left out: its
/// effect never happened. No file means none.
///
/// # Errors
/// What the filesystem answered, with the file's name.
pub fn read(path: &Path) -> io::Result<Effects> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| {
            io::Error::new(error.kind(), format!("reading {}: {error}", path.display()))
        })?,
    };
    let mut effects = Effects { all: Vec::new(), whole: Ok(()) };
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(entry) => effects.all.push(entry),
            Err(error) if error.is_eof() => {}
            Err(error) if effects.whole.is_ok() => {
                effects.whole = Err(damaged(path, number + 1, &error));
            }
            Err(_) => {}
        }
    }
    effects.all.reverse();
    Ok(effects)
}

/// Tells whoever is on call what to do, as no program can know what the line said.
fn damaged(path: &Path, line: usize, error: &serde_json::Error) -> io::Error {
    let (path, directory) = (path.display(), path.parent().unwrap_or(path).display());
    let text = format!(
        "line {line} of the journal {path} is damaged ({error}); end what is left of the sandbox \
         by hand (the file vmm.pid beside it names its VMM), then remove {directory}"
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
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
        assert_eq!(read(&path).unwrap().all, [second, first]);
    }

    #[test]
    fn line_cut_short_does_not_take_the_next_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, "{\"file\":{\"pa").unwrap();
        let next = Entry::Process { pid: 7, started: 99 };
        Journal::open(&path).unwrap().add(&next).unwrap();
        let effects = read(&path).unwrap();
        assert_eq!(effects.all, [next]);
        effects.whole.unwrap();
    }

    #[test]
    fn line_cut_short_by_a_crash_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, "{\"file\":{\"path\":\"/a\"}}\n{\"file\":{\"pa").unwrap();
        let effects = read(&path).unwrap();
        assert_eq!(effects.all, [Entry::File { path: "/a".into() }]);
        effects.whole.unwrap();
        assert!(read(&dir.path().join("none")).unwrap().all.is_empty());
    }

    #[test]
    fn damaged_line_is_named_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        for damage in
            [&b"{\"file\":{\"pa\xff\xfe\"}}"[..], b"{\"fiel\":{\"path\":\"/a\"}}", b"\0\0"]
        {
            let text = [b"\n{\"file\":{\"path\":\"/a\"}}\n\n", damage, b"\n"].concat();
            std::fs::write(&path, text).unwrap();
            let last = Entry::Process { pid: 7, started: 99 };
            Journal::open(&path).unwrap().add(&last).unwrap();
            let effects = read(&path).unwrap();
            assert_eq!(effects.all, [last, Entry::File { path: "/a".into() }]);
            let error = effects.whole.unwrap_err().to_string();
            assert!(error.contains("line 4 of the journal"), "{error}");
            assert!(error.contains(path.to_str().unwrap()) && error.contains("remove"), "{error}");
        }
    }
}
