//! What the host shows of sandboxes: processes, mounts, sockets, files.

use std::path::{Path, PathBuf};

use crate::eventually;

/// Process ids whose executable has this file name.
pub fn processes(name: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let runs = |pid: &u32| {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        exe.is_ok_and(|exe| exe.file_name().is_some_and(|file| file == name))
    };
    pids.filter(runs).collect()
}

/// Process ids of all pods' VMMs: not of those by which templates are built.
pub fn vmms() -> Vec<u32> {
    let mut all = processes("cuddy-vmm");
    all.retain(|pid| {
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        !cgroups.contains("cuddy-templates")
    });
    all
}

/// Process ids of all pods' shims.
pub fn shims() -> Vec<u32> {
    shims_and_builders().0
}

/// Process ids of builders of templates.
pub fn builders() -> Vec<u32> {
    shims_and_builders().1
}

fn shims_and_builders() -> (Vec<u32>, Vec<u32>) {
    let is_shim = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) != Some(b"template")
    };
    processes("containerd-shim-cuddy-v2").into_iter().partition(is_shim)
}

/// Mount points at or below a directory.
pub fn mounts(below: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(below)).collect()
}

/// Places of sandboxes that are mounted in namespaces other than this one, by their processes.
fn mounts_elsewhere() -> Vec<String> {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
    let own = namespace(Path::new("/proc/self"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let process = entry.path();
        if process.join("stat").exists() && namespace(&process) != own {
            let table = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
            // What is mounted is named from its filesystem's root on, which may be `/run`.
            let lines = table.lines().filter(|line| line.contains("/cuddy/"));
            let lines = lines.filter(|line| !line.contains(TEMPLATES));
            found.extend(lines.map(|line| format!("{}: {line}", process.display())));
        }
    }
    found
}

/// The store of templates, which outlives all sandboxes, and its lock.
const TEMPLATES: &str = "/cuddy/.templates";

/// Everything that sandboxes have on the host now; empty when nothing is left.
pub fn remains() -> Vec<String> {
    let mut found = Vec::new();
    found.extend(vmms().iter().map(|pid| format!("VMM {pid}")));
    found.extend(shims().iter().map(|pid| format!("shim {pid}")));
    let run = Path::new("/run/cuddy");
    let points = mounts(run).into_iter().map(|point| format!("mount {}", point.display()));
    found.extend(points.filter(|point| !point.contains(TEMPLATES)));
    found.extend(mounts_elsewhere());
    for dir in [run, Path::new("/run/containerd/s")] {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path().display().to_string());
        found.extend(paths.filter(|path| !path.contains(TEMPLATES)));
    }
    found
}

/// Removes what a daemon that was killed has left in the node's directory.
///
/// # Panics
/// If something there is in use.
pub fn remove_but_templates() {
    for entry in std::fs::read_dir("/run/cuddy").unwrap() {
        let path = entry.unwrap().path();
        if !path.display().to_string().contains(TEMPLATES) {
            let kind = std::fs::symlink_metadata(&path).unwrap();
            let removed = if kind.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

/// Waits until nothing of any sandbox is left.
///
/// # Panics
/// With what is left when patience ends.
pub fn settled() {
    let mut left = Vec::new();
    eventually_or(&mut left);
    assert!(left.is_empty(), "left behind: {left:#?}");
}

fn eventually_or(left: &mut Vec<String>) {
    let end = std::time::Instant::now() + crate::PATIENCE;
    loop {
        *left = remains();
        if left.is_empty() || std::time::Instant::now() > end {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Ends a process by force and waits until it is gone.
///
/// # Panics
/// When it does not go.
pub fn kill(pid: u32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.unwrap().success());
    let stat = format!("/proc/{pid}/stat");
    let alive = || std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z "));
    eventually("a killed process is gone", || !alive());
}

/// Proportional set size of a process in KiB (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pss {
    /// Its own.
    pub own: u64,
    /// Guest memory.
    pub guest: u64,
}

impl Pss {
    /// That of a process now.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> std::io::Result<Self> {
        std::fs::read_to_string(format!("/proc/{pid}/smaps")).map(|text| Self::parse(&text))
    }

    fn parse(smaps: &str) -> Self {
        let (mut sums, mut guests) = ([0, 0], false);
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("Pss:") => {
                    sums[usize::from(guests)] += words.next().unwrap().parse::<u64>().unwrap();
                }
                // The head of a mapping.
                Some(word) if !word.ends_with(':') => guests = is_guests(line),
                _ => {}
            }
        }
        let [own, guest] = sums;
        Self { own, guest }
    }
}

/// Whether the head of a mapping names guest memory: a machine's own file, a clone's memory of its
/// own, or a template's file, which the VMM has by a mount of the file alone.
fn is_guests(head: &str) -> bool {
    ["/cuddy-guest (deleted)", "[anon:cuddy-guest]", " /"].iter().any(|name| head.ends_with(name))
}

/// Proportional memory of a process in KiB, without guest memory.
///
/// # Panics
/// When there is no such process.
pub fn pss_kib(pid: u32) -> u64 {
    Pss::of(pid).unwrap().own
}

/// The operator's configuration file with some content, as long as the value lives.
#[derive(Debug)]
pub struct Configuration(());

impl Configuration {
    const PATH: &str = "/etc/cuddy/config.toml";

    /// Writes it.
    ///
    /// # Panics
    /// When it can't be written, or exists.
    pub fn new(text: &str) -> Self {
        assert!(!Path::new(Self::PATH).exists(), "two configurations at once");
        std::fs::create_dir_all("/etc/cuddy").unwrap();
        std::fs::write(Self::PATH, text).unwrap();
        Self(())
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        std::fs::remove_file(Self::PATH).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_memory_is_counted_apart() {
        let smaps = "\
7f0000000000-7f0010000000 rw-s 00000000 00:01 5    /cuddy-guest (deleted)
Size:             262144 kB
Pss:               40000 kB
Pss_Dirty:         40000 kB
7f1000000000-7f1000100000 r-xp 00000000 fe:00 9    /opt/cuddy/bin/cuddy-vmm
Pss:                 900 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0    [stack]
Pss:                  20 kB
";
        assert_eq!(Pss::parse(smaps), Pss { own: 920, guest: 40_000 });
        assert_eq!(Pss::parse(""), Pss { own: 0, guest: 0 });
        let clone = "\
7f0000000000-7f0002600000 rw-p 00000000 00:2c 5    /
Pss:                9000 kB
7f0002600000-7f0010000000 rw-p 00000000 00:00 0    [anon:cuddy-guest]
Pss:                 500 kB
";
        assert_eq!(Pss::parse(clone), Pss { own: 0, guest: 9500 });
    }
}
