//! From RunPodSandbox to RemovePodSandbox, and what a crash of containerd changes: nothing.

use harness::containerd::versions;
use harness::cri::api::ContainerEventType;
use harness::cri::log::{Stream, text};
use harness::cri::node::{Node, any_handler, each_handler, handlers, on_daemon};
use harness::cri::{ContainerSpec, Daemon, PodSpec};
use harness::{PATIENCE, eventually, host};
use tonic::Code;

#[test]
fn pods_live_under_every_version_and_controller() {
    for programs in versions() {
        let daemon = Daemon::new(&programs);
        on_daemon(&daemon, life);
    }
}

/// One pod with two containers, of which one ends and is made again.
fn life(node: &Node) {
    let cri = &node.cri;
    let pod = node.run(PodSpec::new("life"));
    assert!(cri.ready(&pod));
    let status = cri.pod_status(&pod);
    assert_eq!(status.runtime_handler, node.handler);
    assert_eq!(status.metadata, pod.config.metadata);
    assert_eq!(cri.addresses(&pod).len(), 2, "{status:?}");

    let stays = cri.start_new(&pod, ContainerSpec::idle("stays"));
    let script = "echo out; echo err >&2; exit 7";
    let ends = cri.start_new(&pod, ContainerSpec::shell("ends", script));
    let status = cri.exited(&ends);
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"), "{status:?}");
    assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at);
    assert_eq!(text(&ends.log, Stream::Stdout), "out\n");
    assert_eq!(text(&ends.log, Stream::Stderr), "err\n");
    cri.remove(&ends);

    let again = ContainerSpec::shell("ends", "exit 0").attempt(1);
    let again = cri.start_new(&pod, again);
    let status = cri.exited(&again);
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"), "{status:?}");
    assert_eq!(cri.sh(&stays, "hostname"), "life");

    let begin = std::time::Instant::now();
    cri.stop(&stays, 30);
    assert!(begin.elapsed().as_secs() < 25, "killed, not asked to end");
    assert_eq!(cri.exited(&stays).exit_code, 0);
    assert!(cri.ready(&pod), "the machine's life is not a container's");
    cri.stop_pod(&pod);
    assert!(!cri.ready(&pod));
    cri.remove_pod(&pod);
}

#[test]
fn a_stopped_pod_has_stopped_its_containers() {
    each_handler(|node| {
        let (pod, container) = node.idle("stopped");
        node.cri.stop_pod(&pod);
        // Again: kubelet does so until it works.
        node.cri.stop_pod(&pod);
        let status = node.cri.exited(&container);
        assert_ne!(status.exit_code, 0, "{status:?}");
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn an_unknown_handler_and_a_missing_program_are_refused() {
    any_handler(|node| {
        let refused = node.cri.try_run_pod(PodSpec::new("none").handler("no-such"));
        let message = refused.unwrap_err().message().to_owned();
        assert!(message.contains("no-such"), "{message}");

        let pod = node.run(PodSpec::new("missing"));
        let container = node.cri.create(&pod, ContainerSpec::new("main", &["/no/such/program"]));
        let message = node.cri.try_start(&container).unwrap_err().message().to_owned();
        assert!(message.contains("no such file"), "{message}");
        let status = node.cri.exited(&container);
        assert!(matches!(status.exit_code, 127 | 128), "{status:?}");
        assert_eq!(status.reason, "StartError", "{status:?}");
        node.cri.remove_pod(&pod);
    });
}

#[test]
fn events_tell_of_a_containers_life() {
    any_handler(|node| {
        let events = node.cri.events().unwrap();
        let pod = node.run(PodSpec::new("events"));
        let container = node.cri.start_new(&pod, ContainerSpec::shell("main", "exit 3"));
        node.cri.exited(&container);
        node.cri.remove_pod(&pod);
        let mut seen = Vec::new();
        while seen.last() != Some(&(pod.id.clone(), ContainerEventType::ContainerDeletedEvent)) {
            let event = events.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("after {seen:?}"));
            seen.push((event.container_id.clone(), event.container_event_type()));
        }
        for id in [&pod.id, &container.id] {
            let kinds: Vec<_> = seen.iter().filter(|one| one.0 == *id).map(|one| one.1).collect();
            let expected = [
                ContainerEventType::ContainerCreatedEvent,
                ContainerEventType::ContainerStartedEvent,
                ContainerEventType::ContainerStoppedEvent,
                ContainerEventType::ContainerDeletedEvent,
            ];
            assert_eq!(kinds, expected, "{seen:?}");
        }
    });
}

#[test]
fn pods_outlive_a_crash_of_every_version() {
    for programs in versions() {
        let mut daemon = Daemon::new(&programs);
        for handler in handlers(&daemon) {
            println!("containerd {}, handler {handler}", daemon.version());
            crash(&mut daemon, &handler);
            daemon.settled();
        }
    }
}

/// Whether a log that counts lacks nothing of what was said while the daemon was away.
fn is_whole(log: &str) -> bool {
    let Some(counted) = log.strip_prefix("before\n").and_then(|log| log.strip_suffix("after\n"))
    else {
        return false;
    };
    for (n, line) in (1..).zip(counted.lines()) {
        assert_eq!(line, n.to_string(), "a line is missing: {log}");
    }
    true
}

/// A container that stays and one that ends while the daemon is away.
fn crash(daemon: &mut Daemon, handler: &str) {
    let cri = daemon.cri();
    let gate = tempfile::tempdir().unwrap();
    let wait = |file: &str, code: u32| {
        let count = "n=0; until [ -e /gate/$1 ]; do n=$((n+1)); echo $n; sleep 0.2; done";
        let script = format!("set {file}; echo before; {count}; echo after; exit {code}");
        ContainerSpec::shell(file, &script).mount(gate.path(), "/gate")
    };
    let pod = cri.run_pod(PodSpec::new("crash").handler(handler));
    let stays = cri.start_new(&pod, wait("stays", 9));
    let ends = cri.start_new(&pod, wait("ends", 8));
    for container in [&stays, &ends] {
        eventually("it runs", || text(&container.log, Stream::Stdout).starts_with("before\n"));
    }
    let machine = host::vmms();
    daemon.kill();
    std::fs::write(gate.path().join("ends"), "").unwrap();
    daemon.restart();
    assert_eq!(host::vmms(), machine, "the machine is the same");
    assert!(cri.ready(&pod));
    assert_eq!(cri.exited(&ends).exit_code, 8);
    eventually("the log is whole", || is_whole(&text(&ends.log, Stream::Stdout)));
    assert_eq!(cri.sh(&stays, "hostname"), "crash");
    std::fs::write(gate.path().join("stays"), "").unwrap();
    assert_eq!(cri.exited(&stays).exit_code, 9);
    assert!(is_whole(&text(&stays.log, Stream::Stdout)));
    cri.remove_pod(&pod);
}

#[test]
fn what_is_unknown_is_not_found() {
    any_handler(|node| {
        let request = harness::cri::api::PodSandboxStatusRequest {
            pod_sandbox_id: "no-such".to_owned(),
            verbose: false,
        };
        let mut service = node.cri.runtime_service();
        let refused = node.cri.wait(service.pod_sandbox_status(request));
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    });
}
