//! The pod's cgroup on the host (version 2). The machine and the shim live in it, so that the
//! limits that kubelet sets on the pod hold for them. Its directory is the one that a runtime
//! without machines would make for the sandbox container, below the pod's. One limit is set here:
//! the number of threads, if nobody has set one for the pod.

use std::io;
use std::path::{Path, PathBuf};

use api::Error;

/// Where the hierarchy is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup of this sandbox, and where its processes came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
    home: PathBuf,
    /// What had been killed in it for want of memory before.
    kills: u64,
    /// Memory in MiB that what runs in it may take.
    needs_mib: u64,
}

/// Most threads of a pod's VMM and shim together where nobody else sets a limit: half of what a host
/// has by default at the least (`kernel.pid_max`). The shim has one for each container.
const MAX_THREADS: u64 = 16 << 10;

/// Threads that a VMM of a few CPUs and its shim have at once, with room for those that start
/// containers.
const LEAST_THREADS: u64 = 64;

/// What to do about a pod's cgroup that is smaller than the pod's machine.
const WAY_OUT: &str = "is the overhead missing that its RuntimeClass has in deploy/?";

/// The directory below [`ROOT`] for a `cgroupsPath` (pure): a path, or systemd's
/// `slice:prefix:name`, which stands for a scope in nested slices.
pub fn directory(text: &str) -> Option<PathBuf> {
    let path = match text.split(':').collect::<Vec<_>>()[..] {
        [slice, prefix, name] if ![slice, prefix, name].iter().any(|part| part.contains('/')) => {
            let unit = match name.strip_suffix(".slice") {
                Some(_) => name.to_owned(),
                None if prefix.is_empty() => format!("{name}.scope"),
                None => format!("{prefix}-{name}.scope"),
            };
            slices(if slice.is_empty() { "system.slice" } else { slice })?.join(unit)
        }
        _ if text.contains(':') && !text.starts_with('/') => return None,
        _ => PathBuf::from(text.trim_start_matches('/')),
    };
    let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (plain && path.components().next().is_some()).then_some(path)
}

/// `a-b.slice` → `a.slice/a-b.slice`, as systemd.slice(5) nests them.
fn slices(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() || part.contains('/') {
            return None;
        }
        prefix.push_str(part);
        path.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Some(path)
}

impl Cgroup {
    /// The cgroup for a `cgroupsPath`; none on a host without version 2.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that can't be one; [`Error::Failed`] when this process's own
    /// cgroup can't be told.
    pub fn new(text: &str) -> Result<Option<Self>, Error> {
        let path = directory(text)
            .ok_or_else(|| Error::Invalid(format!("cgroupsPath {text:?} is no cgroup's")))?;
        let root = Path::new(ROOT);
        if !root.join("cgroup.procs").exists() {
            log::warn!(
                "the host has no cgroup version 2: the pod's limits do not hold the machine"
            );
            return Ok(None);
        }
        let own = std::fs::read_to_string("/proc/self/cgroup")
            .map_err(|error| Error::failed("reading /proc/self/cgroup", &error))?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        Ok(Some(Self::at(root.join(path), root.join(own))))
    }

    /// The cgroup with this directory, for a process that came from `home`.
    pub fn at(path: PathBuf, home: PathBuf) -> Self {
        let kills = events(&path, "oom_kill");
        Self { path, home, kills, needs_mib: 0 }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the kernel killed something in it for since this value was made, in plain words: the
    /// limit that was met. None if it killed nothing.
    pub fn out_of_memory(&self) -> Option<String> {
        if events(&self.path, "oom_kill") <= self.kills {
            return None;
        }
        let limited = |path: &&Path| events(path, "oom") > 0 && limit(path).is_some();
        let ancestors = self.path.ancestors().take_while(|path| *path != Path::new(ROOT));
        let Some(path) = ancestors.into_iter().find(limited) else {
            return Some("the host has none left".to_owned());
        };
        let mib = limit(path).unwrap_or_default() >> 20;
        let missing = match self.needs_mib > mib {
            true => format!(", and the pod's machine may take {} MiB: {WAY_OUT}", self.needs_mib),
            false => String::new(),
        };
        Some(format!("{} has a limit of {mib} MiB (memory.max){missing}", path.display()))
    }

    /// Takes note of the memory in MiB that a machine may take with what belongs to it. It is
    /// refused where there is less room than `least`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with both numbers.
    pub fn make_room(&mut self, needs_mib: u64, least: u64) -> Result<(), Error> {
        self.needs_mib = needs_mib;
        let limits = self.path.ancestors().take_while(|path| *path != Path::new(ROOT));
        let limits = limits.filter_map(|path| Some((limit(path)? >> 20, path)));
        let Some((room, path)) = limits.min() else { return Ok(()) };
        if room >= needs_mib {
            return Ok(());
        }
        let text = format!(
            "the pod's cgroup {} has room for {room} MiB (memory.max), and the pod's machine may \
             take {needs_mib} MiB: {WAY_OUT}",
            path.display()
        );
        if room < least {
            return Err(Error::Invalid(text));
        }
        log::warn!("{text}");
        Ok(())
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the kernel answered.
    pub fn create(&self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.path)
            .map_err(|error| Error::failed(&format!("making {}", self.path.display()), &error))
    }

    /// Lets no more than [`MAX_THREADS`] run in it if nobody has set a limit for the pod. The attack:
    /// a VMM that its guest has taken over makes threads until the host has no numbers left.
    pub fn bound_threads(&self) {
        let limits = self.path.ancestors().take_while(|path| *path != Path::new(ROOT));
        match limits.filter_map(|path| Some((threads(path)?, path))).min() {
            Some((limit, path)) if limit < LEAST_THREADS => log::warn!(
                "the pod's cgroup {} allows {limit} processes and threads (pids.max), and a machine \
                 with its shim takes about {LEAST_THREADS}: raise the kubelet's podPidsLimit",
                path.display()
            ),
            Some(_) => {}
            None => {
                let bound = self.path.join("pids.max");
                if !bound.exists() {
                    // As runc does. What can't be had is missing below.
                    let given = self.path.with_file_name("cgroup.subtree_control");
                    let _missing = std::fs::write(given, "+pids");
                }
                if let Err(error) = std::fs::write(&bound, MAX_THREADS.to_string()) {
                    log::warn!(
                        "the machine's threads are not bounded: {}: {error}",
                        bound.display()
                    );
                }
            }
        }
    }

    /// Puts a process into it.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the kernel answered.
    pub fn enter(&self, pid: u32) -> Result<(), Error> {
        std::fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .map_err(|error| Error::failed(&format!("entering {}", self.path.display()), &error))
    }

    /// Puts what is left in it, such as this process, back to where this process came from, and
    /// removes it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn dissolve(&self) -> io::Result<()> {
        let left = std::fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines() {
            let home = [&self.home, Path::new(ROOT)].map(|home| home.join("cgroup.procs"));
            // One may have ended by now.
            let _moved = home.iter().any(|home| std::fs::write(home, pid).is_ok());
        }
        remove(&self.path)
    }
}

/// A count of `memory.events` (kernel's `admin-guide/cgroup-v2`), which has those of all cgroups
/// below; zero where there is none.
fn events(path: &Path, key: &str) -> u64 {
    let text = std::fs::read_to_string(path.join("memory.events")).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

/// The limit of memory that a cgroup has of its own, in bytes.
pub fn limit(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path.join("memory.max")).ok()?.trim().parse().ok()
}

/// The limit of processes and threads that a cgroup has of its own.
fn threads(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path.join("pids.max")).ok()?.trim().parse().ok()
}

/// Removes a cgroup that has no process any more.
///
/// # Errors
/// What the kernel answered.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
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
mod tests {
    use super::*;

    fn path(text: &str) -> Option<String> {
        directory(text).map(|path| path.display().to_string())
    }

    #[test]
    fn paths_of_both_drivers_are_understood() {
        assert_eq!(path("/kubepods/pod1/abc").unwrap(), "kubepods/pod1/abc");
        assert_eq!(path("k8s.io/abc").unwrap(), "k8s.io/abc");
        let scope = path("kubepods-besteffort-pod1_2.slice:cri-containerd:abc").unwrap();
        let slices = "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice";
        assert_eq!(scope, format!("{slices}/cri-containerd-abc.scope"));
        assert_eq!(path(":crio:abc").unwrap(), "system.slice/crio-abc.scope");
        assert_eq!(path("-.slice::abc").unwrap(), "abc.scope");
        assert_eq!(path("a.slice:x:b.slice").unwrap(), "a.slice/b.slice");
    }

    /// A pod's cgroup with this limit in bytes, and the one of its machine below it.
    fn pod(limit: &str) -> (tempfile::TempDir, Cgroup) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/machine");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.with_file_name("memory.max"), format!("{limit}\n")).unwrap();
        std::fs::write(path.join("memory.max"), "max\n").unwrap();
        let home = dir.path().to_owned();
        (dir, Cgroup::at(path, home))
    }

    #[test]
    fn pod_without_room_for_its_machine_is_refused_with_both_numbers() {
        for (limit, fits) in [("max", true), ("50331648", false), ("134217728", true)] {
            let (_dir, mut cgroup) = pod(limit);
            let made = cgroup.make_room(188, 64);
            assert_eq!(made.is_ok(), fits, "{limit}");
            if let Err(error) = made {
                let text = error.to_string();
                assert!(text.contains("48 MiB") && text.contains("188 MiB"), "{text}");
                assert!(text.contains("RuntimeClass") && text.contains("/pod "), "{text}");
            }
        }
    }

    #[test]
    fn threads_are_bounded_where_the_pod_has_no_limit() {
        for (pod_limit, own) in [("max", "16384"), ("1000", "max"), ("20", "max")] {
            let (_dir, cgroup) = pod("max");
            let own_file = cgroup.path().join("pids.max");
            std::fs::write(cgroup.path().with_file_name("pids.max"), pod_limit).unwrap();
            std::fs::write(&own_file, "max").unwrap();
            cgroup.bound_threads();
            assert_eq!(std::fs::read_to_string(&own_file).unwrap(), own, "{pod_limit}");
        }
    }

    #[test]
    fn kill_is_told_with_the_limit_that_was_met_and_once() {
        let (dir, mut cgroup) = pod("134217728");
        cgroup.make_room(268, 64).unwrap();
        assert_eq!(cgroup.out_of_memory(), None);
        let events = "oom 1\noom_kill 1\n";
        std::fs::write(dir.path().join("pod/memory.events"), events).unwrap();
        std::fs::write(cgroup.path().join("memory.events"), "oom 0\noom_kill 1\n").unwrap();
        let told = cgroup.out_of_memory().unwrap();
        assert!(told.contains("/pod has a limit of 128 MiB") && told.contains("268 MiB"), "{told}");
        // What was killed before is no news to the next machine.
        let next = Cgroup::at(cgroup.path().to_owned(), dir.path().to_owned());
        assert_eq!(next.out_of_memory(), None);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for bad in ["", "/", "/a/../../b", "..", "a--b.slice:c:d", "a:b:c", "a.slice:b:../c"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
