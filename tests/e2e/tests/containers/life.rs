//! How containers begin and end.

use harness::cri::ContainerSpec;
use harness::cri::api::Signal;
use harness::cri::log::{Stream, text};
use harness::cri::node::{Shared, shared_pod};
use harness::eventually;
use tonic::Code;

#[test]
fn who_does_not_end_is_killed() {
    shared_pod(|node| {
        let spec = ContainerSpec::shell("main", "trap '' TERM; echo on; while :; do sleep 1; done");
        let container = node.start(spec);
        eventually("it runs", || text(&container.log, Stream::Stdout) == "on\n");
        node.cri.stop(&container, 2);
        let status = node.cri.exited(&container);
        assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"), "{status:?}");
    });
}

#[test]
fn init_containers_run_one_after_the_other() {
    shared_pod(|node| {
        let volume = tempfile::tempdir().unwrap();
        for name in ["first", "second"] {
            let script = format!("echo {name} >>/v/order");
            let spec = ContainerSpec::shell(name, &script).mount(volume.path(), "/v");
            let init = node.start(spec);
            let status = node.cri.exited(&init);
            assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
        }
        let spec = ContainerSpec::idle("main").mount(volume.path(), "/v");
        let main = node.start(spec);
        assert_eq!(node.cri.sh(&main, "cat /v/order"), "first\nsecond");
    });
}

#[test]
fn an_image_is_pulled_from_a_registry_and_run() {
    let done = std::process::Command::new("lab-registry").arg("busybox").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    shared_pod(|node| {
        let name = "registry.test/busybox:latest";
        node.cri.try_pull(name).unwrap();
        let spec = ContainerSpec::shell("main", "echo from the registry").image(name);
        let container = node.start(spec);
        assert_eq!(node.cri.exited(&container).exit_code, 0);
        assert_eq!(text(&container.log, Stream::Stdout), "from the registry\n");
        let missing = node.cri.try_pull("registry.test/no-such:latest").unwrap_err();
        assert_eq!(missing.code(), Code::NotFound, "{missing:?}");
    });
}

#[test]
fn processes_are_private() {
    shared_pod(|node| {
        let one = node.idle();
        let other = node.start(ContainerSpec::new("other", &["sleep", "2222"]));
        assert!(!node.cri.sh(&one, "ps").contains("sleep 2222"));
        assert_eq!(node.cri.sh(&other, "tr '\\0' ' ' </proc/1/cmdline"), "sleep 2222 ");
    });
}

#[test]
fn only_the_pods_own_network_devices_are_there() {
    shared_pod(|node| {
        let container = node.idle();
        let links = node.cri.sh(&container, "cd /sys/class/net && ls -d */");
        assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0/", "lo/"]);
    });
}

/// Ends with a code of its own for each of several signals: 3 for SIGUSR1, 4 for SIGTERM, 5 for
/// SIGQUIT, 6 for SIGRTMIN+3, which is what systemd as a container's program wants.
const SIGNALS: &str = "trap 'exit 3' USR1; trap 'exit 4' TERM; trap 'exit 5' QUIT; \
                       trap 'exit 6' 37; echo on; while :; do sleep 1000 & wait $!; done";

/// From this version on, containerd knows a container's own stop signal.
const STOP_SIGNAL: (u32, u32) = (2, 3);

/// Stops a container that tells what signal reached it, and returns its exit code.
fn stopped(node: &Shared, spec: ContainerSpec) -> i32 {
    let container = node.start(spec);
    eventually("it runs", || text(&container.log, Stream::Stdout) == "on\n");
    node.cri.stop(&container, 60);
    node.cri.exited(&container).exit_code
}

#[test]
fn a_stop_signal_of_the_image_or_of_the_container_is_the_one_that_arrives() {
    shared_pod(|node| {
        node.daemon.import("nginx");
        let ignored = node.daemon.release() < STOP_SIGNAL;
        let code = |known| if ignored { 4 } else { known };
        // Each has a log of its own, which tells when it is ready.
        let own = [("usr1", Signal::Sigusr1, code(3)), ("rtmin", Signal::Sigrtminplus3, code(6))];
        let image = ContainerSpec::shell("image", SIGNALS).image("cuddy.test/nginx:latest");
        assert_eq!(stopped(node, image), 5, "SIGQUIT");
        for (name, signal, code) in own {
            let mut spec = ContainerSpec::shell(name, SIGNALS);
            spec.config.set_stop_signal(signal);
            assert_eq!(stopped(node, spec), code, "{signal:?}");
        }
    });
}
