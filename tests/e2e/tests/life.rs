//! The life of pods and their containers: what shares what, what outlives what, and how each ends.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use harness::containerd::newest;
use harness::cri::{
    Container, ContainerSpec, Controller, Cri, Daemon, Pod, PodSpec, SandboxService,
};
use harness::{eventually, host};
use tonic::Code;

/// Runs a scenario under each controller of the newest containerd. What depends on the version is
/// in `pods/life.rs`.
fn each_controller(scenario: impl Fn(&Daemon, &Cri, Controller)) {
    let daemon = Daemon::new(&newest());
    for controller in daemon.controllers() {
        under(&daemon, *controller, &scenario);
    }
}

/// The same under one of them, for what a container's own calls do: they know no controller.
fn one_controller(scenario: impl Fn(&Daemon, &Cri, Controller)) {
    let daemon = Daemon::new(&newest());
    under(&daemon, daemon.controllers()[0], &scenario);
}

fn under(daemon: &Daemon, controller: Controller, scenario: &impl Fn(&Daemon, &Cri, Controller)) {
    println!("containerd {} {controller:?}", daemon.version());
    scenario(daemon, &daemon.cri(), controller);
    daemon.settled();
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

fn exec_one(cri: &Cri, container: &Container, worker: i32, n: i32) {
    let words = format!("echo {worker}-{n}; echo err >&2; exit {n}");
    let done = cri.exec_sync(container, &["sh", "-c", &words]);
    assert_eq!((done.code, done.stderr.as_str()), (n, "err\n"));
    assert_eq!(done.stdout, format!("{worker}-{n}\n"));
}

#[test]
fn processes_join_containers_by_the_hundred() {
    one_controller(|_, cri, controller| {
        let pod = run(cri, controller, "execs");
        let container = &cri.start_new(&pod, ContainerSpec::idle("main"));
        std::thread::scope(|scope| {
            for worker in 0..8 {
                scope.spawn(move || (0..16).for_each(|n| exec_one(cri, container, worker, n)));
            }
        });
        let missing = cri.try_exec_sync(container, &["/does/not/exist"], 10).unwrap_err();
        let text = missing.message();
        assert!(text.contains("/does/not/exist") && text.contains("no such file"), "{text}");
        // A child in the background keeps the output open; the exec ends all the same.
        let done = cri.exec_sync(container, &["sh", "-c", "sleep 900 & echo parent"]);
        assert_eq!(done.ok(), "parent\n");
        let late = cri.try_exec_sync(container, &["sleep", "100"], 1).unwrap_err();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late:?}");
        assert_eq!(cri.sh(container, "ps | grep -c 'sleep [1]00$'; true"), "0");
        cri.remove_pod(&pod);
    });
}

#[test]
fn want_of_memory_is_the_reason_that_is_told() {
    one_controller(|_, cri, controller| {
        let pod = run(cri, controller, "memory");
        let script = "exec dd if=/dev/zero of=/dev/null bs=64M count=1";
        let hog = cri.start_new(&pod, ContainerSpec::shell("hog", script).memory(16 << 20));
        let status = cri.exited(&hog);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
        assert!(cri.ready(&pod));
        let other = cri.start_new(&pod, ContainerSpec::shell("other", "exit 137"));
        let status = cri.exited(&other);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
        cri.remove_pod(&pod);
    });
}

#[test]
fn resources_change_and_are_measured() {
    one_controller(|daemon, cri, controller| {
        let pod = run(cri, controller, "resources");
        let container = cri.start_new(&pod, ContainerSpec::idle("main").memory(64 << 20));
        let limit = "cat /sys/fs/cgroup/memory.max";
        assert_eq!(cri.sh(&container, limit), (64 << 20).to_string());
        let mut wanted = ContainerSpec::idle("main").memory(96 << 20);
        wanted.limits().cpu_quota = 50_000;
        wanted.limits().cpu_period = 100_000;
        cri.try_update(&container, wanted.limits().clone()).unwrap();
        assert_eq!(cri.sh(&container, limit), (96 << 20).to_string());
        assert_eq!(cri.sh(&container, "cat /sys/fs/cgroup/cpu.max"), "50000 100000");
        cri.sh(&container, "dd if=/dev/zero of=/dev/null bs=1M count=50 2>/dev/null");
        let stats = cri.stats(&container);
        let (cpu, memory) = (stats.cpu.unwrap(), stats.memory.unwrap());
        assert!(cpu.usage_core_nano_seconds.unwrap().value > 0);
        assert!(memory.working_set_bytes.unwrap().value > 0);
        let task = daemon.ctr(&["task", "metrics", "--format", "json", &container.id]);
        assert!(task.stdout.contains("usage_usec"), "{task:?}");
        daemon.ctr(&["task", "pause", &container.id]).ok();
        let seen = daemon.ctr(&["task", "ls"]).ok();
        let line = seen.lines().find(|line| line.contains(&container.id)).unwrap();
        assert!(line.contains("PAUSED"), "{line}");
        daemon.ctr(&["task", "resume", &container.id]).ok();
        assert_eq!(cri.sh(&container, "echo there"), "there");
        cri.remove_pod(&pod);
    });
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
