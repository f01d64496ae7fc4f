//! A host that has too little for a pod: CPU time is waited for, want of memory is told as such.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::containerd::newest;
use harness::cri::{ContainerSpec, Daemon, PodSpec};
use harness::eventually;
use harness::host::Configuration;

/// The pod's cgroup on the host, made before the pod as kubelet does it, without limits.
fn cgroup(spec: &PodSpec) -> PathBuf {
    let parent = &spec.config.linux.as_ref().unwrap().cgroup_parent;
    let path = Path::new("/sys/fs/cgroup").join(parent.trim_start_matches('/'));
    std::fs::create_dir_all(&path).unwrap();
    let above = path.parent().unwrap();
    for at in [above.parent().unwrap(), above] {
        std::fs::write(at.join("cgroup.subtree_control"), "+memory +cpu").unwrap();
    }
    path
}

fn set(cgroup: &Path, file: &str, value: u64) {
    std::fs::write(cgroup.join(file), value.to_string()).unwrap();
}

#[test]
fn pod_without_room_for_its_machine_is_refused_with_both_sizes() {
    let daemon = Daemon::new(&newest());
    let spec = PodSpec::new("narrow").resources(48 << 20, 1000);
    set(&cgroup(&spec), "memory.max", 48 << 20);
    let error = daemon.cri().try_run_pod(spec).unwrap_err().to_string();
    for word in ["48 MiB", "188 MiB", "overhead"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    daemon.settled();
}

#[test]
fn machine_killed_for_want_of_memory_is_told_as_such() {
    let daemon = Daemon::new(&newest());
    let cri = daemon.cri();
    let spec = PodSpec::new("greedy");
    let cgroup = cgroup(&spec);
    let pod = cri.run_pod(spec);
    let script = "dd if=/dev/zero of=/dev/null bs=200M count=1; exec sleep 1000";
    set(&cgroup, "memory.max", 100 << 20);
    let container = cri.start_new(&pod, ContainerSpec::shell("main", script));
    let status = cri.exited(&container);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"), "{status:?}");
    let reason = "has a limit of 100 MiB";
    eventually(reason, || daemon.log().contains(reason));
    cri.remove_pod(&pod);
    daemon.settled();
}

#[test]
fn pod_that_gets_little_cpu_boots_and_lives() {
    let daemon = Daemon::new(&newest());
    let cri = daemon.cri();
    let _configuration = Configuration::new("boot_timeout_seconds = 8\ntemplates = \"none\"\n");
    let spec = PodSpec::new("starved");
    let cgroup = cgroup(&spec);
    // Of ten seconds it stands in line for eight.
    std::fs::write(cgroup.join("cpu.max"), "20000 100000").unwrap();
    let begin = Instant::now();
    let pod = cri.run_pod(spec);
    assert!(begin.elapsed() > Duration::from_secs(8), "it was not starved");
    let container = cri.start_new(&pod, ContainerSpec::idle("main"));
    assert_eq!(cri.sh(&container, "echo alive").trim(), "alive");
    std::fs::write(cgroup.join("cpu.max"), "max").unwrap();
    cri.remove_pod(&pod);
    daemon.settled();
}

#[test]
fn container_that_is_made_while_its_machine_panics_is_told_of_the_panic() {
    let daemon = Daemon::new(&newest());
    let cri = daemon.cri();
    let mut spec = PodSpec::new("panics");
    spec.config.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
    let pod = cri.run_pod(spec);
    let mut armed =
        ContainerSpec::shell("armed", "sleep 2; echo c >/proc/sysrq-trigger; exec sleep 1000");
    armed.security().privileged = true;
    let mut running = vec![cri.start_new(&pod, armed)];
    let mut refused = None;
    while refused.is_none() {
        let next = ContainerSpec::idle(&format!("c{}", running.len()));
        let container = cri.try_create(&pod, next);
        match container.and_then(|next| cri.try_start(&next).map(|()| next)) {
            Ok(container) => running.push(container),
            Err(error) => refused = Some(error.to_string()),
        }
    }
    let error = refused.unwrap();
    assert!(error.contains("sysrq triggered crash"), "{error}");
    // Before it knows of their end, containerd refuses to remove them.
    for container in &running {
        cri.exited(container);
    }
    cri.remove_pod(&pod);
    daemon.settled();
}
