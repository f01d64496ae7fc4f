//! Pods' cgroups, which kubelet makes before the pod and removes after it.

use std::path::{Path, PathBuf};

use tonic::Status;

use crate::comes_true;

/// Where the hierarchy is mounted, or those of version 1 are.
const ROOT: &str = "/sys/fs/cgroup";

/// What a hierarchy of version 2 has at its top.
const CONTROLLERS: &str = "cgroup.controllers";

/// The parent of all pods' cgroups, as `kubepods` is.
pub(super) const PARENT: &str = "/cuddy-pods";

/// Where each hierarchy is mounted.
fn tops() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join(CONTROLLERS).exists() {
        return vec![root.to_owned()];
    }
    let entries = std::fs::read_dir(root).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|top| top.is_dir()).collect()
}

/// A cgroup in each hierarchy.
fn places(name: &str) -> impl Iterator<Item = PathBuf> {
    tops().into_iter().map(|top| top.join(name.trim_start_matches('/')))
}

/// Lets the children of a cgroup be limited in every way that it can be itself. Those of version 1
/// always can.
fn delegate(directory: &Path) {
    let controllers = std::fs::read_to_string(directory.join(CONTROLLERS)).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        // Not every controller can be handed on in every kernel.
        let _kept =
            std::fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Makes a pod's cgroup with all controllers. Nothing for a name that is empty.
pub(super) fn make(name: &str) {
    if name.is_empty() {
        return;
    }
    for top in tops() {
        let mut at = top;
        for part in Path::new(name.trim_start_matches('/')) {
            at.push(part);
            std::fs::create_dir_all(&at).unwrap();
            delegate(&at);
        }
    }
}

/// Removes a pod's cgroup, which must be empty soon: no process, no cgroup of a container.
///
/// # Errors
/// When something stays in it.
pub(super) fn remove(name: &str) -> Result<(), Status> {
    let gone = |directory: &PathBuf| !directory.exists() || std::fs::remove_dir(directory).is_ok();
    if name.is_empty() || comes_true(|| places(name).all(|directory| gone(&directory))) {
        return Ok(());
    }
    let left: Vec<_> = places(name).flat_map(|directory| content(&directory)).collect();
    Err(Status::aborted(format!("something stays in the pod's cgroup {name}: {left:?}")))
}

/// What is in a cgroup and below: cgroups, and processes by number, name and state.
fn content(directory: &Path) -> Vec<String> {
    let process = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.split(' ').take(3).collect::<Vec<_>>().join(" ")
    };
    let processes = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut found = vec![format!("{}", directory.display())];
    found.extend(processes.lines().map(process));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let below = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    found.extend(below.flat_map(|path| content(&path)));
    found
}

/// Cgroups of pods that are there.
pub(super) fn remains() -> Vec<PathBuf> {
    let entries = places(PARENT).flat_map(|parent| std::fs::read_dir(parent).into_iter().flatten());
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Removes what pods of failed tests have left, if it is empty.
pub(super) fn clear() {
    for pod in remains() {
        for child in std::fs::read_dir(&pod).into_iter().flatten().flatten() {
            let _file_or_busy = std::fs::remove_dir(child.path());
        }
        let _busy = std::fs::remove_dir(pod);
    }
}
