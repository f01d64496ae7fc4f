//! cgroup v2 of the guest: `/sys/fs/cgroup/pod/<container id>` per container. The agent itself
//! stays in the root, outside of every limit of the pod.

use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// The cgroup above all containers, relative to [`ROOT`].
const POD: &str = "pod";

/// A cgroup file that could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// A file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A value was refused.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The refused value.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A cgroup could not be made.
    #[error("create cgroup {path}")]
    Create {
        /// Its directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

pub(crate) fn read(directory: &Path, file: &str) -> Result<String, CgroupError> {
    let path = directory.join(file);
    std::fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })
}

pub(crate) fn write(directory: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = directory.join(file);
    std::fs::write(&path, value).map_err(|source| CgroupError::Write {
        path,
        value: value.to_owned(),
        source,
    })
}

/// Makes the pod's cgroup and lets every controller limit what is below it.
///
/// # Errors
/// No cgroup v2 hierarchy is mounted, or it refuses a controller that it lists.
pub(crate) fn prepare_root() -> Result<(), CgroupError> {
    let root = Path::new(ROOT);
    let pod = root.join(POD);
    enable_controllers(root)?;
    create(&pod)?;
    enable_controllers(&pod)
}

fn create(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Create { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn enable_controllers(directory: &Path) -> Result<(), CgroupError> {
    let controllers = read(directory, "cgroup.controllers")?;
    let wanted: Vec<String> =
        controllers.split_whitespace().map(|controller| format!("+{controller}")).collect();
    if wanted.is_empty() {
        Ok(())
    } else {
        write(directory, "cgroup.subtree_control", &wanted.join(" "))
    }
}
