//! The directory of a sandbox on the host, `/run/cuddy/<namespace>/<sandbox id>/`: what is in
//! it, and how all of it is undone without any help of the sandbox's processes.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::journal::{self, Entry, Journal};
use crate::mounts::Share;
use crate::{ContainerId, Namespace, SandboxId, cgroup, spawn};

/// Where all sandboxes' directories are.
pub const ROOT: &str = "/run/cuddy";

/// Environment variable that names another root, for tests.
pub const ROOT_VARIABLE: &str = "CUDDY_RUN";

/// Longest time that a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(3);

/// Most bytes of the file of steps, some 300 of them.
const MAX_TIMELINE: u64 = 16 << 10;

/// The directory of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The directory's place; it need not exist.
    pub fn new(namespace: &Namespace, sandbox: &SandboxId) -> Self {
        let root = std::env::var_os(ROOT_VARIABLE).map_or_else(|| ROOT.into(), PathBuf::from);
        Self(root.join(namespace.as_str()).join(sandbox.as_str()))
    }

    /// One at any place.
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
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

    /// Notes which daemon the sandbox belongs to, by the address of its socket.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn set_owner(&self, address: &str) -> io::Result<()> {
        std::fs::write(self.0.join("owner"), address)
    }

    /// The daemon that the sandbox belongs to, if it is not the one at `address` and a process
    /// of the sandbox still lives.
    pub fn foreign_owner(&self, address: &str) -> Option<String> {
        let owner = std::fs::read_to_string(self.0.join("owner")).ok()?;
        if owner == address {
            return None;
        }
        let entries = journal::read(&self.0.join("journal")).unwrap_or_default();
        let lives = entries.iter().any(|entry| match entry {
            Entry::Process { pid, started } => spawn::start_time(*pid) == Some(*started),
            _ => false,
        });
        lives.then_some(owner)
    }

    /// The directories of all sandboxes of this one's namespace that are of nobody's daemon
    /// (CRI-O's have no address), this one left out, and whose shim has ended or was never
    /// started. Whoever asks has to know that no shim is just being started.
    pub fn abandoned(&self) -> Vec<Self> {
        let entries = self.0.parent().and_then(|namespace| std::fs::read_dir(namespace).ok());
        let others = entries.into_iter().flatten().flatten().map(|entry| Self(entry.path()));
        others.filter(|other| other != self && other.is_abandoned()).collect()
    }

    fn is_abandoned(&self) -> bool {
        let owner = std::fs::read_to_string(self.0.join("owner"));
        if !owner.is_ok_and(|owner| owner.is_empty()) {
            return false;
        }
        let Ok(entries) = journal::read(&self.0.join("journal")) else { return false };
        // The shim notes itself before it does anything; the latest entry comes first.
        let shim = entries.iter().rev().find_map(|entry| match entry {
            Entry::Process { pid, started } => Some((*pid, *started)),
            _ => None,
        });
        shim.is_none_or(|(pid, started)| !spawn::lives(pid, started))
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

    /// Makes the machine's share, which has nothing in it yet.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn create_share(&self) -> io::Result<Share> {
        let scaffold = self.scaffold();
        DirBuilder::new().mode(0o755).recursive(true).create(&scaffold)?;
        Share::new(&scaffold)
    }

    /// Makes a container's part of the share.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn create_container(&self, id: &ContainerId, share: &Share) -> io::Result<()> {
        std::fs::create_dir(self.scaffold().join(id.as_str()))?;
        share.admit(Path::new(id.as_str()))
    }

    /// Makes a mount point in a container's part of the share: a directory, or an empty file.
    /// Returns where it is in the share.
    ///
    /// # Errors
    /// What the filesystem answered.
    pub fn mount_point(
        &self,
        id: &ContainerId,
        name: &Path,
        directory: bool,
    ) -> io::Result<PathBuf> {
        let place = Path::new(id.as_str()).join(name);
        let made = self.scaffold().join(&place);
        if directory {
            std::fs::create_dir_all(&made)?;
        } else {
            if let Some(parent) = made.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::File::create(&made)?;
        }
        Ok(place)
    }

    /// Where in the share volume `number` of the pod is: no name of a container begins like that.
    pub(crate) fn volume(number: u64) -> PathBuf {
        format!(".volumes/{number}/volume").into()
    }

    /// Makes the mount point of a volume that is not one container's alone. Returns where it is in
    /// the share.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) fn create_volume(&self, number: u64, share: &Share) -> io::Result<PathBuf> {
        let place = Self::volume(number);
        std::fs::create_dir_all(self.scaffold().join(&place))?;
        share.admit(&volume_part(number))?;
        Ok(place)
    }

    /// Undoes what was made for a volume.
    ///
    /// # Errors
    /// What could not be undone.
    pub(crate) fn destroy_volume(&self, number: u64, share: &Share) -> io::Result<()> {
        share.detach(&volume_part(number))?;
        absent_is_fine(std::fs::remove_dir_all(self.scaffold().join(volume_part(number))))
    }

    /// Waits for the processes of a sandbox that is about to end in order, each for at most
    /// `limit`. One that is not, or died over it, is not waited for.
    ///
    /// # Errors
    /// The journal can't be read.
    pub fn wait_closed(&self, limit: Duration) -> io::Result<()> {
        if !self.closing().exists() {
            return Ok(());
        }
        for entry in journal::read(&self.0.join("journal"))? {
            if let Entry::Process { pid, started } = entry {
                spawn::wait_stranger(pid, started, limit);
            }
        }
        Ok(())
    }

    /// Undoes everything: ends the sandbox's processes, with which all is gone that is mounted for
    /// them, and removes files. Can be done again, at any time, by any process.
    ///
    /// # Errors
    /// The first thing that could not be undone; the rest has been tried.
    pub fn destroy(&self) -> io::Result<()> {
        self.destroy_except(None)
    }

    /// As [`Self::destroy`], but leaves the process `keep` alone: the one that does it.
    ///
    /// # Errors
    /// As [`Self::destroy`].
    pub fn destroy_except(&self, keep: Option<u32>) -> io::Result<()> {
        let entries = journal::read(&self.0.join("journal"))?;
        for entry in &entries {
            if let Entry::Process { pid, started } = entry
                && keep != Some(*pid)
            {
                spawn::kill_stranger(*pid, *started, KILL_LIMIT);
            }
        }
        let mut first = Ok(());
        for entry in &entries {
            let undone = match entry {
                Entry::Process { .. } => Ok(()),
                Entry::File { path } => absent_is_fine(std::fs::remove_file(path)),
                Entry::Network { path, inode } => {
                    network::undo(path, *inode).map_err(std::io::Error::other)
                }
                // A logger that has not noticed its end yet may still be in it: the pod's owner
                // removes it then, with the pod's own cgroup.
                Entry::Cgroup { path } => {
                    let _later = cgroup::remove(path);
                    Ok(())
                }
            };
            first = first.and(undone);
        }
        first?;
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

    /// Undoes what one container left, in the share of a machine that is not over as well.
    ///
    /// # Errors
    /// What could not be undone.
    pub fn destroy_container(&self, id: &ContainerId, share: Option<&Share>) -> io::Result<()> {
        if let Some(share) = share {
            share.detach(Path::new(id.as_str()))?;
        }
        absent_is_fine(std::fs::remove_dir_all(self.scaffold().join(id.as_str())))
    }
}

/// A volume's part of the share, which is hidden as a whole, without a look at the volume.
fn volume_part(number: u64) -> PathBuf {
    format!(".volumes/{number}").into()
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::mounts::{Options, Tree};

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir(dir.path().join("ns/id"));
        (dir, state)
    }

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
    fn sandbox_of_another_daemon_is_told_as_long_as_it_lives() {
        let (_dir, state) = state();
        let mut journal = state.create().unwrap();
        state.set_owner("/run/a.sock").unwrap();
        assert_eq!(state.foreign_owner("/run/b.sock"), None);
        let started = spawn::start_time(std::process::id()).unwrap();
        journal.add(&Entry::Process { pid: std::process::id(), started }).unwrap();
        assert_eq!(state.foreign_owner("/run/a.sock"), None);
        assert_eq!(state.foreign_owner("/run/b.sock").unwrap(), "/run/a.sock");
    }

    #[test]
    fn sandbox_without_shim_and_without_daemon_is_abandoned() {
        let (dir, own) = state();
        let started = spawn::start_time(std::process::id()).unwrap();
        let living = Entry::Process { pid: std::process::id(), started };
        let mut gone = std::process::Command::new("/bin/true").spawn().unwrap();
        let dead = spawn::start_time(gone.id()).unwrap();
        let dead = Entry::Process { pid: gone.id(), started: dead };
        let sandbox = |name: &str, owner: &str, entries: &[&Entry]| {
            let state = StateDir(dir.path().join("ns").join(name));
            let mut journal = state.create().unwrap();
            state.set_owner(owner).unwrap();
            entries.iter().for_each(|entry| journal.add(entry).unwrap());
            state
        };
        own.create().unwrap();
        own.set_owner("").unwrap();
        // Its second process, the VMM, lives on.
        let left = sandbox("left", "", &[&dead, &living]);
        sandbox("living", "", &[&living, &dead]);
        sandbox("containerds", "/run/c.sock", &[&dead]);
        std::fs::create_dir(dir.path().join("ns/strange")).unwrap();
        // Dead, and not waited for.
        let ended = || !spawn::lives(gone.id(), spawn::start_time(gone.id()).unwrap());
        while !ended() {
            std::thread::yield_now();
        }
        assert_eq!(own.abandoned(), [left]);
        gone.wait().unwrap();
        assert_eq!(own.abandoned().len(), 1);
    }

    #[test]
    fn process_that_destroys_spares_itself() {
        let (_dir, state) = state();
        let started = spawn::start_time(std::process::id()).unwrap();
        let entry = Entry::Process { pid: std::process::id(), started };
        state.create().unwrap().add(&entry).unwrap();
        state.destroy_except(Some(std::process::id())).unwrap();
        assert!(!state.path().exists());
    }

    #[test]
    fn nothing_but_mounts_can_be_changed_in_the_share_and_removal_enters_none() {
        let (dir, state) = state();
        let id = ContainerId::new("web").unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("precious"), "").unwrap();
        state.create().unwrap();
        let share = state.create_share().unwrap();
        state.create_container(&id, &share).unwrap();
        let root = state.mount_point(&id, Path::new("rootfs"), true).unwrap();
        let file = state.mount_point(&id, Path::new("mounts/0"), false).unwrap();
        let directory = share.directory().unwrap();
        let seen = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        // What a guest would do: the machine has no other way to the directory than this mount.
        for link in ["next", "web/next", "web/mounts/1"] {
            let made = std::os::unix::fs::symlink("/", seen.join(link));
            assert_eq!(made.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem, "{link}");
        }
        assert!(std::fs::remove_file(seen.join(file)).is_err());
        let tree = || Tree::of(&data, &Options::parse(&[])).unwrap();
        share.attach(tree(), &root).unwrap();
        std::fs::write(seen.join(&root).join("written"), "").unwrap();
        assert!(!state.scaffold().join(&root).join("precious").exists());
        // While it is mounted, and while the machine lives.
        state.destroy_container(&id, None).unwrap();
        state.create_container(&id, &share).unwrap();
        let root = state.mount_point(&id, Path::new("rootfs"), true).unwrap();
        share.attach(tree(), &root).unwrap();
        assert!(seen.join(&root).join("written").exists());
        state.destroy_container(&id, Some(&share)).unwrap();
        assert!(!seen.join("web").exists());
        state.destroy().unwrap();
        assert!(data.join("precious").exists() && data.join("written").exists());
        assert!(!state.path().exists());
    }
}
