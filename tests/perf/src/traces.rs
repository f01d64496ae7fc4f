//! What sandboxes could leave on a host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use harness::host;

/// Directories in which something is made for a sandbox.
const DIRECTORIES: &[&str] = &[
    "/run/cuddy",
    "/run/cuddy/k8s.io",
    "/run/containerd/s",
    "/run/netns",
    "/var/lib/cuddy",
    "/sys/class/net",
    "/dev/shm",
];

/// Processes, mounts, links, network namespaces, cgroups and files of a host.
#[derive(Debug)]
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// Those of this host now.
    pub(crate) fn of_host() -> Self {
        let mounts = host::mounts(Path::new("/"));
        let mut found: BTreeSet<_> =
            mounts.iter().map(|point| format!("mount {}", point.display())).collect();
        found.extend(DIRECTORIES.iter().flat_map(|directory| entries(Path::new(directory))));
        found.extend(processes());
        cgroups(Path::new("/sys/fs/cgroup"), &mut found);
        Self(found)
    }

    /// Fails with what has come since.
    pub(crate) fn nothing_new(&self) -> Result<()> {
        let now = Self::of_host().0;
        let new: Vec<_> = now.difference(&self.0).collect();
        ensure!(new.is_empty(), "left behind: {new:#?}");
        Ok(())
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// Processes with an executable: threads of the kernel come and go.
fn processes() -> Vec<String> {
    let executable = |path: String| {
        let executable = fs::read_link(format!("{path}/exe")).ok()?;
        path.ends_with(|last: char| last.is_ascii_digit())
            .then(|| format!("process {path} {}", executable.display()))
    };
    entries(Path::new("/proc")).into_iter().filter_map(executable).collect()
}

fn cgroups(directory: &Path, found: &mut BTreeSet<String>) {
    found.insert(format!("cgroup {}", directory.display()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            cgroups(&entry.path(), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_process_is_told() {
        let before = Traces::of_host();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let told = before.nothing_new();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(told.unwrap_err().to_string().contains("sleep"));
    }
}
