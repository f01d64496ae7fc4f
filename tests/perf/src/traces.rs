//! What sandboxes could leave on a host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use harness::cri::Daemon;
use harness::{comes_true, host};

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

/// Processes, mounts, links, network namespaces, cgroups and files of a host, and what is kept for
/// pods: containers, snapshots, addresses, rules of the packet filter.
#[derive(Debug)]
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// Those of this host now, and of a daemon on it.
    pub(crate) fn of_host(daemon: &Daemon) -> Self {
        let mut traces = Self::outside();
        traces.0.extend(daemon.remains());
        traces.0.extend(daemon.kept());
        traces
    }

    /// What the host shows by itself.
    fn outside() -> Self {
        let mounts = host::mounts(Path::new("/"));
        let mut found: BTreeSet<_> =
            mounts.iter().map(|point| format!("mount {}", point.display())).collect();
        found.extend(DIRECTORIES.iter().flat_map(|directory| entries(Path::new(directory))));
        found.extend(processes());
        cgroups(Path::new("/sys/fs/cgroup"), &mut found);
        Self(found)
    }

    /// Fails with what has come since and does not go.
    pub(crate) fn nothing_new(&self, daemon: &Daemon) -> Result<()> {
        let mut new = Vec::new();
        let gone = comes_true(|| {
            new = self.new_in(Self::of_host(daemon));
            new.is_empty()
        });
        ensure!(gone, "left behind: {new:#?}");
        Ok(())
    }

    fn new_in(&self, now: Self) -> Vec<String> {
        now.0.into_iter().filter(|one| !self.0.contains(one)).collect()
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
        let before = Traces::outside();
        let command = std::process::Command::new("sleep").arg("60").spawn();
        let _child = crate::process::Process(command.unwrap());
        let new = before.new_in(Traces::outside());
        assert!(new.iter().any(|one| one.contains("sleep")), "{new:?}");
    }
}
