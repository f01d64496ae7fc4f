//! Pods' cgroups, which kubelet makes before the pod and removes after it.

use std::path::{Path, PathBuf};

use tonic::Status;

use crate::comes_true;

/// Where the hierarchy is mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The parent of all pods' cgroups, as `kubepods` is.
pub(super) const PARENT: &str = "/cuddy-pods";

fn place(name: &str) -> PathBuf {
    Path::new(ROOT).join(name.trim_start_matches('/'))
}

/// Lets the children of a cgroup be limited in every way that it can be itself.
fn delegate(directory: &Path) {
    let controllers = std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap();
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
    let directory = place(name);
    let parents: Vec<_> = directory.ancestors().take_while(|at| *at != Path::new(ROOT)).collect();
    for at in parents.into_iter().rev() {
        std::fs::create_dir_all(at).unwrap();
        delegate(at);
    }
}

/// Removes a pod's cgroup, which must be empty soon: no process, no cgroup of a container.
///
/// # Errors
/// When something stays in it.
pub(super) fn remove(name: &str) -> Result<(), Status> {
    let directory = place(name);
    let gone = || !directory.exists() || std::fs::remove_dir(&directory).is_ok();
    if name.is_empty() || comes_true(gone) {
        return Ok(());
    }
    Err(Status::aborted(format!("something stays in the pod's cgroup {name}")))
}

/// Cgroups of pods that are there.
pub(super) fn remains() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place(PARENT)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
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
