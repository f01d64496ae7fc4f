//! The pod's cgroup on the host (version 2): the machine and the shim live in it, so that the
//! limits that kubelet sets on the pod hold for them. Nothing is set here: the directory is the
//! one that a runtime without machines would make for the sandbox container, below the pod's.

use std::io;
use std::path::{Path, PathBuf};

use crate::Error;

/// Where the hierarchy is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// A cgroup of this sandbox, and where its processes came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
    home: PathBuf,
}

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
        Ok(Some(Self { path: root.join(path), home: root.join(own) }))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// [`Error::Failed`] with what the kernel answered.
    pub fn create(&self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.path)
            .map_err(|error| Error::failed(&format!("making {}", self.path.display()), &error))
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

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for bad in ["", "/", "/a/../../b", "..", "a--b.slice:c:d", "a:b:c", "a.slice:b:../c"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
