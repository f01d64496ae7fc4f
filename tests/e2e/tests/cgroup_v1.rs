//! A hybrid node: its cgroups are of version 1, a hierarchy for each controller. Its kernel has version
//! 1 of memory and cpuset no more. The lab of this program is its own, and is made such a node before
//! the first test.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use harness::cri::{ContainerSpec, Cuddyd, PodSpec};
use harness::host;

const ROOT: &str = "/sys/fs/cgroup";
/// Where version 2 is on a hybrid node.
const UNIFIED: &str = "unified";
const RUNC: &str = "[handlers.runc]\nruntime_type = 'io.containerd.runc.v2'\n";

/// What is mounted together, as systemd mounts it.
const HIERARCHIES: [&str; 6] =
    ["cpu,cpuacct", "pids", "devices", "freezer", "blkio", "none,name=systemd"];

/// Those that a machine is limited by or counted in; version 2 has no controller's name.
const NEEDED: [&str; 3] = ["cpu,cpuacct", "pids", ""];

fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status().unwrap();
    assert!(status.success(), "mount {arguments:?}: {status}");
}

/// Takes the controllers from version 2, which nobody uses yet, and mounts those of version 1.
fn version_1() {
    static MOUNTED: Once = Once::new();
    MOUNTED.call_once(|| {
        let root = Path::new(ROOT);
        let control = root.join("cgroup.subtree_control");
        for controller in std::fs::read_to_string(&control).unwrap().split_whitespace() {
            std::fs::write(&control, format!("-{controller}")).unwrap();
        }
        let status = Command::new("umount").arg(root).status().unwrap();
        assert!(status.success(), "umount: {status}");
        mount(&["-t", "tmpfs", "cgroups", ROOT]);
        for options in HIERARCHIES {
            let place = root.join(options.trim_start_matches("none,name="));
            std::fs::create_dir(&place).unwrap();
            mount(&["-t", "cgroup", "-o", options, "cgroup", place.to_str().unwrap()]);
        }
        let unified = root.join(UNIFIED);
        std::fs::create_dir(&unified).unwrap();
        mount(&["-t", "cgroup2", "cgroup", unified.to_str().unwrap()]);
        std::fs::write(unified.join("cgroup.subtree_control"), "+memory").unwrap();
    });
}

fn daemon() -> Cuddyd {
    version_1();
    let daemon = Cuddyd::with(RUNC);
    daemon.pull("busybox");
    daemon
}

/// The pod's own cgroups, as kubelet makes them.
fn parent(spec: &PodSpec) -> String {
    spec.config.linux.as_ref().unwrap().cgroup_parent.clone()
}

/// A file of one of them.
fn file(hierarchy: &str, parent: &str, name: &str) -> PathBuf {
    Path::new(ROOT).join(hierarchy).join(parent.trim_start_matches('/')).join(name)
}

/// The cgroup of a process in one hierarchy.
fn cgroup_of(pid: u32, hierarchy: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    lines.find(|(list, _)| *list == hierarchy).unwrap().1.to_owned()
}

#[test]
fn machine_and_shim_are_charged_to_the_pod_in_each_hierarchy() {
    let daemon = daemon();
    let cri = daemon.cri();
    let spec = PodSpec::new("charged").resources(128 << 20, 1000);
    let parent = parent(&spec);
    made(&file(UNIFIED, &parent, "memory.max"));
    let pod = cri.run_pod(spec);
    let container = cri.start_new(&pod, ContainerSpec::idle("main"));
    assert_eq!(cri.sh(&container, "echo there"), "there");
    let (vmms, shims) = (host::vmms(), host::shims());
    assert_eq!((vmms.len(), shims.len()), (1, 1));
    for hierarchy in NEEDED {
        for pid in [vmms[0], shims[0]] {
            let own = cgroup_of(pid, hierarchy);
            assert!(own.starts_with(&format!("{parent}/")), "{hierarchy}: {own}");
        }
    }
    let bound = file("pids", &cgroup_of(vmms[0], "pids"), "pids.max");
    assert_eq!(std::fs::read_to_string(bound).unwrap().trim(), "16384");
    let used = file(UNIFIED, &parent, "memory.current");
    let used: u64 = std::fs::read_to_string(used).unwrap().trim().parse().unwrap();
    assert!(used > 16 << 20, "{used} bytes are no guest");
    // It refuses to where something is left in one of them.
    cri.remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

/// Makes the cgroup of a limit, with the controller in all that it is in.
fn made(limit: &Path) {
    let cgroup = limit.parent().unwrap();
    std::fs::create_dir_all(cgroup).unwrap();
    let root = Path::new(ROOT).join(UNIFIED);
    let above = cgroup.ancestors().skip(1).take_while(|path| path.starts_with(&root));
    for path in above.collect::<Vec<_>>().into_iter().rev() {
        std::fs::write(path.join("cgroup.subtree_control"), "+memory").unwrap();
    }
}

#[test]
fn pod_without_room_for_its_machine_is_refused_with_both_sizes() {
    let daemon = daemon();
    let spec = PodSpec::new("narrow").resources(48 << 20, 1000);
    let limit = file(UNIFIED, &parent(&spec), "memory.max");
    made(&limit);
    std::fs::write(&limit, (48 << 20).to_string()).unwrap();
    let error = daemon.cri().try_run_pod(spec).unwrap_err().to_string();
    for word in ["48 MiB", "188 MiB", "memory.max"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn container_on_the_node_is_in_version_1() {
    let daemon = daemon();
    let cri = daemon.cri();
    let pod = cri.run_pod(PodSpec::new("node").handler("runc"));
    let idle = cri.start_new(&pod, ContainerSpec::idle("idle"));
    let list = cri.sh(&idle, "cat /proc/self/cgroup");
    assert!(list.contains(":pids:/") && list.contains(":cpu,cpuacct:/"), "{list}");
    cri.remove_pod(&pod);
}

#[test]
fn check_finds_the_controllers() {
    version_1();
    let output = Command::new("cuddy").arg("check").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("cgroup")).unwrap();
    assert!(line.contains("ok") && line.contains("versions 1 and 2 with "), "{text}");
}
