//! The pod's cgroup on the host. The machine and the shim live in it, so that the limits that
//! kubelet sets on the pod hold for them. It is one directory in version 2 of cgroups, and one in
//! each hierarchy that has limits in version 1 ([`hierarchy`]). The directory is the one that a
//! runtime without machines would make for the sandbox container, below the pod's. One limit is set
//! here: the number of threads, if nobody has set one for the pod.

mod files;
mod hierarchy;
mod path;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use api::Error;

pub use files::{CpuLimit, MemoryLimit, cpu_limit, memory_limit};
pub use hierarchy::{Hierarchy, ROOT, controllers};
pub use path::directory;

/// A cgroup of this sandbox, and where its processes came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// One in each hierarchy, at least one.
    places: Vec<Place>,
    /// What had been killed in it for want of memory before.
    kills: u64,
    /// Memory in MiB that what runs in it may take.
    needs_mib: u64,
}

/// The cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    hierarchy: Hierarchy,
}

/// Most threads of a pod's VMM and shim together where nobody else sets a limit: half of what a host
/// has by default at the least (`kernel.pid_max`). The shim has one for each container.
const MAX_THREADS: u64 = 16 << 10;

/// Threads that a VMM of a few CPUs and its shim have at once, with room for those that start
/// containers.
const LEAST_THREADS: u64 = 64;

/// What to do about a pod's cgroup that is smaller than the pod's machine.
const WAY_OUT: &str = "is the overhead missing that its RuntimeClass has in deploy/?";

impl Cgroup {
    /// The cgroup for a `cgroupsPath`; none on a host without cgroups.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that can't be one; [`Error::Failed`] when the host's
    /// hierarchies can't be told.
    pub fn new(text: &str) -> Result<Option<Self>, Error> {
        let path = directory(text)
            .ok_or_else(|| Error::Invalid(format!("cgroupsPath {text:?} is no cgroup's")))?;
        let mut hierarchies = Hierarchy::all()?;
        if hierarchies.iter().all(Hierarchy::is_systemds) {
            log::warn!("the host has no cgroups: the pod's limits do not hold the machine");
            return Ok(None);
        }
        // systemd's own has only what systemd is asked for.
        hierarchies.retain(|one| !one.is_systemds() || path::is_systemds(text));
        Ok(Some(Self::of(hierarchies, &path)))
    }

    /// The cgroup at this path below the top of each hierarchy.
    pub fn of(hierarchies: impl IntoIterator<Item = Hierarchy>, path: &Path) -> Self {
        let place = |hierarchy: Hierarchy| Place { path: hierarchy.top.join(path), hierarchy };
        let places = hierarchies.into_iter().map(place).collect();
        let mut cgroup = Self { places, kills: 0, needs_mib: 0 };
        cgroup.kills = cgroup.kills_until_now();
        cgroup
    }

    /// Its directories.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().map(|place| place.path.as_path())
    }

    /// What the kernel killed something in it for since this value was made, in plain words: the
    /// limit that was met. None if it killed nothing.
    pub fn out_of_memory(&self) -> Option<String> {
        if self.kills_until_now() <= self.kills {
            return None;
        }
        let met = |path: &Path| files::met_limit(path).then(|| memory_limit(path)).flatten();
        let Some((limit, path)) = self.find(met) else {
            return Some("the host has none left".to_owned());
        };
        let mib = limit.bytes >> 20;
        let missing = match self.needs_mib > mib {
            true => format!(", and the pod's machine may take {} MiB: {WAY_OUT}", self.needs_mib),
            false => String::new(),
        };
        Some(format!("{} has a limit of {mib} MiB ({}){missing}", path.display(), limit.file))
    }

    /// Takes note of the memory in MiB that a machine may take with what belongs to it. It is
    /// refused where there is less room than `least`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with both numbers.
    pub fn make_room(&mut self, needs_mib: u64, least: u64) -> Result<(), Error> {
        self.needs_mib = needs_mib;
        let limits = self.each(memory_limit);
        let Some((limit, path)) = limits.min_by_key(|(limit, _)| limit.bytes) else {
            return Ok(());
        };
        let room = limit.bytes >> 20;
        if room >= needs_mib {
            return Ok(());
        }
        let text = format!(
            "the pod's cgroup {} has room for {room} MiB ({}), and the pod's machine may take \
             {needs_mib} MiB: {WAY_OUT}",
            path.display(),
            limit.file
        );
        if room < least {
            return Err(Error::Invalid(text));
        }
        log::warn!("{text}");
        Ok(())
    }

    /// Makes its directories.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the kernel answered.
    pub fn create(&self) -> Result<(), Error> {
        self.directories().try_for_each(|path| {
            std::fs::create_dir_all(path)
                .map_err(|error| Error::failed(&format!("making {}", path.display()), &error))
        })
    }

    /// Lets what is in it have a CPU only when others leave one: a tenth of the usual share.
    pub fn stand_back(&self) {
        const LOW: [(&str, &str); 2] = [("cpu.weight", "10"), ("cpu.shares", "102")];
        for Place { path, hierarchy } in &self.places {
            for controller in ["+cpu", "+memory"].into_iter().filter(|_| hierarchy.is_unified()) {
                // What can't be had is missing then.
                let given = path.with_file_name("cgroup.subtree_control");
                let _missing = std::fs::write(given, controller);
            }
            for (file, share) in LOW {
                // Each version has one of them, and that only where the controller is.
                let _other = std::fs::write(path.join(file), share);
            }
        }
    }

    /// Lets no more than [`MAX_THREADS`] run in it if nobody has set a limit for the pod. The attack:
    /// a VMM that its guest has taken over makes threads until the host has no numbers left.
    pub fn bound_threads(&self) {
        match self.each(files::threads).min() {
            Some((limit, path)) if limit < LEAST_THREADS => log::warn!(
                "the pod's cgroup {} allows {limit} processes and threads (pids.max), and a machine \
                 with its shim takes about {LEAST_THREADS}: raise the kubelet's podPidsLimit",
                path.display()
            ),
            Some(_) => {}
            None => {
                let Some(bound) = self.bound() else {
                    log::warn!("the machine's threads are not bounded: there is no pids.max");
                    return;
                };
                if let Err(error) = std::fs::write(&bound, MAX_THREADS.to_string()) {
                    log::warn!(
                        "the machine's threads are not bounded: {}: {error}",
                        bound.display()
                    );
                }
            }
        }
    }

    /// Its directory for a process that is to be born in it; none where a process has to be moved: in
    /// version 1 of cgroups, and where there is more than one hierarchy.
    pub fn birthplace(&self) -> Option<OwnedFd> {
        let [place] = self.places.as_slice() else { return None };
        let directory = place.hierarchy.is_unified().then(|| File::open(&place.path))?;
        directory.ok().map(OwnedFd::from)
    }

    /// Puts a process into it.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the kernel answered. It may be in some of the directories.
    pub fn enter(&self, pid: u32) -> Result<(), Error> {
        self.directories().try_for_each(|path| {
            std::fs::write(path.join("cgroup.procs"), pid.to_string())
                .map_err(|error| Error::failed(&format!("entering {}", path.display()), &error))
        })
    }

    /// Puts what is left in it, such as this process, back to where this process came from, and
    /// removes it.
    ///
    /// # Errors
    /// The first directory that stays, with what the kernel answered.
    pub fn dissolve(&self) -> io::Result<()> {
        let mut answer = Ok(());
        for place in &self.places {
            // Each is tried, whatever became of those before.
            let dissolved = place.dissolve();
            answer = answer.and(dissolved);
        }
        answer
    }

    fn kills_until_now(&self) -> u64 {
        self.directories().map(files::kills).sum()
    }

    /// What the cgroup and those around it say, from the inside out, and who says it.
    fn each<T>(&self, ask: impl Fn(&Path) -> Option<T>) -> impl Iterator<Item = (T, &Path)> {
        let levels = self.places.iter().flat_map(Place::levels);
        levels.filter_map(move |path| Some((ask(path)?, path)))
    }

    /// The first of them.
    fn find<T>(&self, ask: impl Fn(&Path) -> Option<T>) -> Option<(T, &Path)> {
        self.each(ask).next()
    }

    /// The file that bounds its threads. In version 2 it may have to be asked for, as runc does.
    fn bound(&self) -> Option<PathBuf> {
        let there =
            || self.directories().map(|path| path.join("pids.max")).find(|bound| bound.exists());
        there().or_else(|| {
            let unified = self.places.iter().find(|place| place.hierarchy.is_unified())?;
            // What can't be had is missing then.
            let given = unified.path.with_file_name("cgroup.subtree_control");
            let _missing = std::fs::write(given, "+pids");
            there()
        })
    }
}

impl Place {
    /// The cgroup and those around it, but for the root, which has no limits.
    fn levels(&self) -> impl Iterator<Item = &Path> {
        self.path.ancestors().take_while(move |path| *path != self.hierarchy.top)
    }

    fn dissolve(&self) -> io::Result<()> {
        let left = std::fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines() {
            let Hierarchy { home, top, .. } = &self.hierarchy;
            // One may have ended by now.
            let _moved =
                [home, top].iter().any(|to| std::fs::write(to.join("cgroup.procs"), pid).is_ok());
        }
        remove(&self.path)
    }
}

/// Removes a cgroup's directory, which has no process any more.
///
/// # Errors
/// What the kernel answered, with the directory's path.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("removing {}: {error}", path.display())))
        }
        Ok(()) => Ok(()),
    }
}

/// Tells the host's OOM killer what a process is worth, -1000 to 1000 (proc(5)).
///
/// # Errors
/// [`Error::Failed`] with what the kernel answered.
pub fn set_oom_score(pid: u32, score: i32) -> Result<(), Error> {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
        .map_err(|error| Error::failed(&format!("setting oom_score_adj of {pid}"), &error))
}

#[cfg(test)]
mod tests;
