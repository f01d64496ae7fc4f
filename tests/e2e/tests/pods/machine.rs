//! A pod is one machine, whatever its containers do, and measured as one.

use harness::containerd::newest;
use harness::cri::{
    Container, ContainerSpec, Controller, Cri, Daemon, Pod, PodSpec, SandboxService,
};
use harness::{eventually, host};
use tonic::Code;

/// Runs a scenario under each controller of the newest containerd.
fn each_controller(scenario: impl Fn(&Daemon, &Cri, Controller)) {
    let daemon = Daemon::new(&newest());
    for controller in daemon.controllers() {
        println!("containerd {} {controller:?}", daemon.version());
        scenario(&daemon, &daemon.cri(), *controller);
        daemon.settled();
    }
}

fn run(cri: &Cri, controller: Controller, name: &str) -> Pod {
    cri.run_pod(PodSpec::new(name).handler(controller.handler()))
}

#[test]
fn containers_come_and_go_in_one_machine_that_lasts_as_long_as_the_pod() {
    each_controller(|daemon, cri, controller| {
        let pod = cri.run_pod(PodSpec::new("several").handler(controller.handler()).hostname("h1"));
        assert_eq!(host::vmms().len(), 1);
        nothing_of_a_pause_image(daemon, &pod);
        let machine = host::vmms();
        let setup = cri.start_new(&pod, ContainerSpec::shell("setup", "exit 0"));
        assert_eq!(cri.exited(&setup).exit_code, 0);
        cri.remove(&setup);
        // No container is left, and the machine is.
        assert_eq!(host::vmms(), machine);
        let first = cri.start_new(&pod, ContainerSpec::idle("first"));
        let second = cri.start_new(&pod, ContainerSpec::idle("second"));
        for container in [&first, &second] {
            assert_eq!(cri.sh(container, "hostname").trim(), "h1");
        }
        let namespaces = "for kind in ipc uts net; do readlink /proc/self/ns/$kind; done";
        assert_eq!(cri.sh(&first, namespaces), cri.sh(&second, namespaces));
        assert_ne!(
            cri.sh(&first, "readlink /proc/1/ns/pid"),
            cri.sh(&second, "readlink /proc/1/ns/pid")
        );
        cri.stop(&first, 30);
        assert_eq!(cri.exited(&first).exit_code, 0);
        cri.remove(&first);
        let again = cri.start_new(&pod, ContainerSpec::idle("first").attempt(1));
        assert_eq!(cri.sh(&again, "echo there"), "there");
        assert_eq!(cri.sh(&second, "echo there"), "there");
        assert_eq!(host::vmms(), machine);
        assert!(cri.ready(&pod));
        cri.stop_pod(&pod);
        assert!(!cri.ready(&pod));
        // A stopped pod costs no memory, though its record stays.
        eventually("the machine has ended", || host::vmms().is_empty());
        assert_eq!(cri.exited(&second).exit_code, 137);
        cri.remove_pod(&pod);
    });
}

/// A sandbox container's image is neither run nor mounted: the machine is the pod.
fn nothing_of_a_pause_image(daemon: &Daemon, pod: &Pod) {
    assert!(host::processes("pause").is_empty() && !host::shims().is_empty());
    let rootfs = daemon.bundle(pod).join("rootfs").display().to_string();
    let (shims, vmms) = (host::shims(), host::vmms());
    for pid in shims.iter().chain(&vmms).chain([&std::process::id()]) {
        let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let snapshot = |line: &str| {
            line.split(",upperdir=").nth(1).is_some_and(|upper| upper.contains("/snapshots/"))
        };
        let of_image = |line: &&str| line.contains(&rootfs) || snapshot(line);
        assert_eq!(table.lines().find(of_image), None, "process {pid}");
    }
    // Whatever the guest is shown of the host has a place here.
    let shown = std::fs::read_dir(format!("/run/cuddy/k8s.io/{}/scaffold", pod.id)).unwrap();
    let shown: Vec<_> = shown.map(|entry| entry.unwrap().path()).collect();
    assert!(shown.is_empty(), "{shown:?}");
}

/// CPU time in microseconds, memory in bytes, processes.
type Usage = [u64; 3];

fn usage(daemon: &Daemon, container: &Container) -> Usage {
    let text = daemon.ctr(&["task", "metrics", "--format", "json", &container.id]).ok();
    let metrics: serde_json::Value = serde_json::from_str(&text).unwrap();
    ["/cpu/usage_usec", "/memory/usage", "/pids/current"].map(|place| {
        metrics
            .pointer(place)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_else(|| panic!("{text}"))
    })
}

#[test]
fn sandbox_service_measures_the_pod_and_makes_it_once() {
    let daemon = Daemon::new(&newest());
    let cri = &daemon.cri();
    let pod = run(cri, Controller::Shim, "measured");
    let service = SandboxService::of(&daemon, &pod);
    let busy = cri.start_new(&pod, ContainerSpec::shell("busy", "while :; do :; done"));
    let idle = cri.start_new(&pod, ContainerSpec::idle("idle"));
    // A container may give memory back between the two questions.
    eventually("the pod uses what its containers use together", || {
        let containers = [&busy, &idle].map(|container| usage(&daemon, container));
        let metrics = service.metrics().unwrap();
        let whole = [metrics.cpu.usage_usec, metrics.memory.usage, metrics.pids.current];
        println!("{containers:?} of {whole:?}");
        assert!(containers.iter().flatten().chain(&whole).all(|&number| number > 0));
        let [one, other] = containers;
        (0..whole.len()).all(|kind| whole[kind] >= one[kind] + other[kind])
    });
    assert!(service.metrics().unwrap().pids.current >= 3, "two shells and a sleep");

    let mut other = pod.config.clone();
    other.hostname = "other".to_owned();
    assert_eq!(service.create(&other).unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(cri.sh(&idle, "cat /etc/hostname"), "measured");

    cri.stop_pod(&pod);
    assert_eq!(service.metrics().unwrap_err().code(), Code::NotFound);
    cri.remove_pod(&pod);
    daemon.settled();
}
