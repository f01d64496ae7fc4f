//! What the node can do. It is asked for each pod and container: an administrator may load a profile
//! of AppArmor, or give the node another name, at any time.

use std::path::Path;

use host::cgroup::{self, Hierarchy};

use crate::apparmor;
use crate::settings::{Driver, Settings};
use crate::spec::{CgroupDriver, Node};

/// What exists where systemd manages the cgroups (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Who manages the node's cgroups.
pub(crate) fn cgroup_driver(settings: &Settings) -> CgroupDriver {
    match settings.cgroup_driver {
        Driver::Systemd => CgroupDriver::Systemd,
        Driver::Cgroupfs => CgroupDriver::Cgroupfs,
        Driver::Auto if Path::new(SYSTEMD).is_dir() => CgroupDriver::Systemd,
        Driver::Auto => CgroupDriver::Cgroupfs,
    }
}

/// Asks. A handful of small files of the kernel's, none of which waits for a device.
pub(crate) fn ask(settings: &Settings) -> Node {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let hierarchies = told(Hierarchy::all());
    let controllers = told(cgroup::controllers(&hierarchies));
    let last_capability = read("/proc/sys/kernel/cap_last_cap").trim().parse().unwrap_or(40);
    Node {
        hostname: read("/proc/sys/kernel/hostname").trim().to_owned(),
        cgroup_driver: cgroup_driver(settings),
        cgroup_namespaces: hierarchies.iter().all(Hierarchy::is_unified),
        swap: controllers.contains("memory") && hierarchies.iter().any(limits_swap),
        hugetlb: controllers.contains("hugetlb"),
        seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
        apparmor: apparmor::loaded(),
        last_capability,
        cgroup_options: cgroup_options(&read("/proc/self/mountinfo")),
    }
}

/// What the kernel tells of cgroups; nothing where it does not.
fn told<T: Default>(answer: Result<T, api::Error>) -> T {
    answer.unwrap_or_else(|error| {
        log::warn!("{error}");
        T::default()
    })
}

/// Whether memory and swap can be limited there. In version 1 the kernel's command line says so.
fn limits_swap(hierarchy: &Hierarchy) -> bool {
    hierarchy.is_unified() || hierarchy.top.join("memory.memsw.limit_in_bytes").exists()
}

/// Options of the node's cgroup file system that a mount without them takes away
/// (proc_pid_mountinfo(5), pure).
fn cgroup_options(mounts: &str) -> Vec<String> {
    let kept = ["nsdelegate", "memory_recursiveprot", "memory_localevents"];
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(cgroup::ROOT));
    let Some((_, rest)) = line.and_then(|line| line.split_once(" - cgroup2 ")) else {
        return Vec::new();
    };
    let options = rest.split(' ').nth(1).unwrap_or_default().split(',');
    options.filter(|option| kept.contains(option)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn options_of_the_cgroups_are_kept() {
        let line =
            "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,x";
        assert_eq!(super::cgroup_options(line), ["nsdelegate"]);
        let first = "33 24 0:30 / /sys/fs/cgroup rw - tmpfs tmpfs rw,nsdelegate";
        assert!(super::cgroup_options(first).is_empty());
    }
}
