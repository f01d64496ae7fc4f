//! The two programs that a foreign pod needs beside its shim.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// The companion.
const STREAMS: &str = "cuddy-streams";

/// The process of a sandbox container.
const PAUSE: &str = "cuddy-pause";

/// Directories of a sandbox container's root, for what is mounted there. The root is read-only.
const DIRECTORIES: [&str; 7] = ["", "dev", "dev/shm", "etc", "proc", "sys", "tmp"];

/// Where they are. Nowhere on a node that has no foreign handler.
#[derive(Debug, Clone, Default)]
pub(crate) struct Programs {
    /// The companion's binary.
    pub(crate) streams: PathBuf,
    /// The root file system of all sandbox containers.
    pub(crate) pause: PathBuf,
}

impl Programs {
    /// The command of a sandbox container.
    pub(crate) const COMMAND: &'static str = "/pause";

    /// Finds them beside this program's own binary or in `path`, and makes the root file system of
    /// sandbox containers in `pause`. Pods share its one file, so they share its memory, too.
    ///
    /// # Errors
    /// [`Fault::FailedPrecondition`] with what is missing.
    pub(crate) fn find(path: &OsStr, pause: &Path) -> Result<Self, Fault> {
        let own = std::env::current_exe().ok();
        let beside = own.and_then(|own| own.parent().map(Path::to_owned));
        let places: Vec<_> = beside.into_iter().chain(std::env::split_paths(path)).collect();
        let find = |name: &str| {
            let mut files = places.iter().map(|place| place.join(name));
            files.find(|file| file.is_file()).ok_or_else(|| {
                let text = format!("handlers beside our own need {name}, which is not in PATH");
                Fault::FailedPrecondition(text)
            })
        };
        let (streams, binary) = (find(STREAMS)?, find(PAUSE)?);
        make_root(&binary, pause).map_err(|error| {
            Fault::FailedPrecondition(format!("making {}: {error}", pause.display()))
        })?;
        Ok(Self { streams, pause: pause.into() })
    }
}

/// Makes it anew in each run: pods that run keep the file that they have.
fn make_root(binary: &Path, root: &Path) -> io::Result<()> {
    for directory in DIRECTORIES {
        std::fs::create_dir_all(root.join(directory))?;
        std::fs::set_permissions(root.join(directory), Permissions::from_mode(0o755))?;
    }
    std::fs::File::options()
        .create(true)
        .append(true)
        .open(root.join("etc/resolv.conf"))
        .map(drop)?;
    let file = root.join(Programs::COMMAND.trim_start_matches('/'));
    if is_same(binary, &file) {
        return Ok(());
    }
    let new = root.join("pause.new");
    std::fs::copy(binary, &new)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    std::fs::rename(&new, &file)
}

fn is_same(binary: &Path, file: &Path) -> bool {
    matches!((std::fs::read(binary), std::fs::read(file)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn root_is_made_once_for_each_release_of_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, root) = (dir.path().join("b"), dir.path().join("root"));
        let inode = || std::fs::metadata(root.join("pause")).unwrap().ino();
        std::fs::write(&binary, "one").unwrap();
        make_root(&binary, &root).unwrap();
        let first = inode();
        make_root(&binary, &root).unwrap();
        assert_eq!(inode(), first, "what runs and what is to run share their memory");
        std::fs::write(&binary, "two").unwrap();
        let running = std::fs::File::open(root.join("pause")).unwrap();
        make_root(&binary, &root).unwrap();
        assert_eq!(std::fs::read_to_string(root.join("pause")).unwrap(), "two");
        assert_eq!(std::io::read_to_string(running).unwrap(), "one");
    }
}
