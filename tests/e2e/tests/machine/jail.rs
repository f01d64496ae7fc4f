//! What is left to a VMM process of its host, seen from outside.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use super::client::{Boot, Vmm};
use super::kernels;

/// The fields of `/proc/<pid>/status`, of a thread or of the process.
fn status(path: &str) -> HashMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(":\t"));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn namespace(pid: &str, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap()
}

#[test]
fn nothing_of_the_host_is_left() {
    let vmm = Vmm::boot(&Boot::new(kernels::spin(), 64).vcpus(2));
    let pid = vmm.child.id().to_string();
    let content: Vec<_> = fs::read_dir(format!("/proc/{pid}/root/")).unwrap().collect();
    assert!(content.is_empty(), "{content:?}");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains("ro,nosuid,nodev,noexec"), "{mounts}");
    for name in ["mnt", "net", "ipc", "uts", "cgroup"] {
        assert_ne!(namespace(&pid, name), namespace("self", name), "{name}");
    }
}

#[test]
fn every_thread_is_filtered_and_has_no_capability() {
    let vmm =
        Vmm::boot(&Boot::new(kernels::spin(), 64).vcpus(2).device(|_| vmm_api::DeviceConfig::Rng));
    let pid = vmm.child.id();
    let threads: Vec<_> = fs::read_dir(format!("/proc/{pid}/task")).unwrap().collect();
    let mut names = Vec::new();
    for thread in threads {
        let path = thread.unwrap().path().join("status");
        let status = status(path.to_str().unwrap());
        let name = &status["Name"];
        // KVM's own thread inside the kernel is listed as one of the process.
        if name.starts_with("kvm-") {
            continue;
        }
        names.push(name.clone());
        assert_eq!(status["Seccomp"], "2", "{name}");
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set} of {name}");
        }
    }
    names.sort();
    assert_eq!(names, ["cuddy-vmm", "vcpu0", "vcpu1", "vio-rng0"]);
}
