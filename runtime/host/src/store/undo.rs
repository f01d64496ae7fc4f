//! Undoing what a sandbox has on the host, by its journal. The sandbox's own process does it at its
//! end. Any other process does it when that one has died.

use std::io;
use std::time::{Duration, Instant};

use super::{StateDir, absent_is_fine};
use crate::journal::{self, Entry};
use crate::{cgroup, spawn};

/// Longest time that a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(3);

impl StateDir {
    /// Waits at most `limit` for the processes of a sandbox that is about to end in order. One that
    /// is not, or died over it, is not waited for.
    ///
    /// # Errors
    /// The journal can't be read.
    pub fn wait_closed(&self, limit: Duration) -> io::Result<()> {
        if !self.closing().exists() {
            return Ok(());
        }
        let end = Instant::now() + limit;
        for entry in journal::read(&self.0.join("journal"))?.all {
            if let Entry::Process { pid, started } = entry {
                spawn::wait_stranger(pid, started, end.saturating_duration_since(Instant::now()));
            }
        }
        Ok(())
    }

    /// Undoes everything: ends the sandbox's processes, with which all is gone that is mounted for
    /// them, and removes files. Can be done again, at any time, by any process. While anything is
    /// left, the directory stays, so that nobody forgets it.
    ///
    /// # Errors
    /// The first thing that could not be undone, a process that does not end, or a damaged
    /// journal; the rest has been tried.
    pub fn destroy(&self) -> io::Result<()> {
        self.destroy_except(None)
    }

    /// As [`Self::destroy`], but leaves the process `keep` alone: the one that does it.
    ///
    /// # Errors
    /// As [`Self::destroy`].
    pub fn destroy_except(&self, keep: Option<u32>) -> io::Result<()> {
        let effects = journal::read(&self.0.join("journal"))?;
        let (processes, others): (Vec<_>, Vec<_>) =
            effects.all.iter().partition(|entry| matches!(entry, Entry::Process { .. }));
        let mut first = Ok(());
        // They hold what the other entries name.
        for entry in processes.into_iter().chain(others) {
            first = first.and(undo(entry, keep));
        }
        first.and(effects.whole)?;
        absent_is_fine(std::fs::remove_dir_all(&self.0))?;
        if let Some(namespace) = self.0.parent() {
            // Fails while other sandboxes are in it, as it should.
            let _other_sandboxes = std::fs::remove_dir(namespace);
        }
        Ok(())
    }

    /// Undoes what the boot of a machine made, so that another can be tried. The console's
    /// output stays.
    ///
    /// # Errors
    /// What could not be undone.
    pub fn destroy_machine(&self) -> io::Result<()> {
        absent_is_fine(std::fs::remove_dir_all(self.scaffold()))?;
        absent_is_fine(std::fs::remove_file(self.vsock()))?;
        absent_is_fine(std::fs::remove_file(self.ready()))?;
        absent_is_fine(std::fs::remove_file(self.vmm_pid()))
    }
}

/// Undoes one effect.
fn undo(entry: &Entry, keep: Option<u32>) -> io::Result<()> {
    match entry {
        Entry::Process { pid, .. } if keep == Some(*pid) => Ok(()),
        Entry::Process { pid, started } => match spawn::kill_stranger(*pid, *started, KILL_LIMIT) {
            true => Ok(()),
            false => Err(undying(*pid)),
        },
        Entry::File { path } => absent_is_fine(std::fs::remove_file(path)),
        Entry::Network { path, inode } => network::undo(path, *inode).map_err(io::Error::other),
        // A logger that has not noticed its end yet may still be in it: the pod's owner removes it
        // then, with the pod's own cgroup.
        Entry::Cgroup { path } => {
            let _later = cgroup::remove(path);
            Ok(())
        }
    }
}

/// Why a process that was killed is still there, as far as that can be known.
fn undying(pid: u32) -> io::Error {
    let text = format!(
        "process {pid} was killed and does not end: it waits in the host's kernel, mostly for \
         storage that does not answer (see /proc/{pid}/stack); it is gone once that does, then \
         try again"
    );
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{own_process, state};
    use super::*;

    #[test]
    fn processes_files_and_directory_are_gone_after_destroy() {
        let (dir, state) = state();
        let mut journal = state.create().unwrap();
        let socket = dir.path().join("socket");
        journal.add(&Entry::File { path: socket.clone() }).unwrap();
        std::fs::write(&socket, "").unwrap();
        let mut child = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
        let started = spawn::start_time(child.id()).unwrap();
        journal.add(&Entry::Process { pid: child.id(), started }).unwrap();
        // The child is this process's to reap, which the other thread does.
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        state.destroy().unwrap();
        assert!(!reaper.join().unwrap().success());
        assert!(!socket.exists() && !dir.path().join("ns").exists());
        state.destroy().unwrap();
    }

    #[test]
    fn sandbox_that_ends_in_order_is_waited_for_and_no_other() {
        let (_dir, state) = state();
        let mut child = std::process::Command::new("/bin/cat");
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let started = spawn::start_time(child.id()).unwrap();
        let entry = Entry::Process { pid: child.id(), started };
        state.create().unwrap().add(&entry).unwrap();
        let limit = Duration::from_secs(20);
        state.wait_closed(limit).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        std::fs::write(state.closing(), "").unwrap();
        state.wait_closed(Duration::ZERO).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        drop(child.stdin.take());
        state.wait_closed(limit).unwrap();
        // Gone, and only to be reaped.
        assert!(child.try_wait().unwrap().is_some());
    }

    #[test]
    fn process_that_destroys_spares_itself() {
        let (_dir, state) = state();
        state.create().unwrap().add(&own_process()).unwrap();
        state.destroy_except(Some(std::process::id())).unwrap();
        assert!(!state.path().exists());
    }

    #[test]
    fn damaged_journal_is_told_after_all_that_can_be_read_is_undone() {
        let (dir, state) = state();
        let mut journal = state.create().unwrap();
        let socket = dir.path().join("socket");
        std::fs::write(&socket, "").unwrap();
        journal.add(&Entry::File { path: socket.clone() }).unwrap();
        let path = state.path().join("journal");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"tap\":7}}\n")).unwrap();
        for _ in 0..2 {
            let error = state.destroy().unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains("line 3"), "{error}");
            assert!(!socket.exists() && path.exists());
        }
    }
}
