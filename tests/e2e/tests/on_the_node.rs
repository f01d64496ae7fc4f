//! Pods of our own daemon that run in the node's kernel, by runc's shim.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::path::{Path, PathBuf};

use harness::cri::api::{self, ContainerState};
use harness::cri::log::Stream;
use harness::cri::{ContainerSpec, Cuddyd, Pod, PodSpec, log};
use harness::{eventually, host};

const RUNC: &str = "host_pods = 'runc'\n[handlers.runc]\nruntime_type = 'io.containerd.runc.v2'\n";

fn daemon() -> Cuddyd {
    let daemon = Cuddyd::with(RUNC);
    daemon.pull("busybox");
    daemon
}

fn on_node(name: &str) -> PodSpec {
    PodSpec::new(name).handler("runc")
}

fn log_path(pod: &Pod, name: &str) -> PathBuf {
    Path::new(&pod.config.log_directory).join(format!("{name}-0.log"))
}

fn output(pod: &Pod, name: &str) -> String {
    let path = log_path(pod, name);
    if path.exists() { log::text(&path, Stream::Stdout) } else { String::new() }
}

/// Nothing is left of any pod: no file, no mount, no layer, no companion.
fn is_clean(daemon: &Cuddyd) {
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
    assert_eq!(host::mounts(&daemon.path("state")), Vec::<PathBuf>::new());
    eventually("companions end", || host::processes("cuddy-streams").is_empty());
    assert!(host::processes("cuddy-pause").is_empty() && host::processes("pause").is_empty());
}

#[test]
fn pod_on_the_node_lives_and_ends() {
    let daemon = daemon();
    let cri = daemon.cri();
    let pod = cri.run_pod(on_node("first"));
    assert_eq!(cri.addresses(&pod).len(), 2, "one of each family");
    let script = "echo hello; echo bad >&2; trap 'echo bye; exit 3' TERM; \
                  while :; do sleep 1000 & wait $!; done";
    let container = cri.start_new(&pod, ContainerSpec::shell("main", script));
    let kernel = cri.sh(&container, "uname -r");
    let own = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(kernel.trim(), own.trim(), "it runs in the node's kernel");
    assert_eq!(
        cri.sh(&container, "hostname; cat /etc/hostname; echo x > /new; cat /new"),
        "first\nfirst\nx"
    );
    eventually("the log has the first line", || output(&pod, "main") == "hello\n");
    assert_eq!(log::text(&log_path(&pod, "main"), Stream::Stderr), "bad\n");
    cri.stop(&container, 20);
    let ended = cri.status(&container);
    assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 3));
    assert_eq!(output(&pod, "main"), "hello\nbye\n", "it is whole when the end is known");
    cri.remove(&container);
    cri.remove_pod(&pod);
    is_clean(&daemon);
}

#[test]
fn pods_that_need_the_node_go_to_the_handler_that_is_set() {
    let daemon = daemon();
    let cri = daemon.cri();
    let mut spec = PodSpec::new("network").handler("");
    spec.namespaces().network = api::NamespaceMode::Node.into();
    let pod = cri.run_pod(spec);
    assert_eq!(
        cri.pod_status(&pod).network.unwrap_or_default().ip,
        "",
        "the node's is none of its"
    );
    let container = cri.start_new(&pod, ContainerSpec::idle("main"));
    let own: std::collections::BTreeSet<_> = std::fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let seen = cri.sh(&container, "ls /sys/class/net");
    let seen: std::collections::BTreeSet<_> = seen.split_whitespace().map(str::to_owned).collect();
    assert_eq!(seen, own);
    cri.remove_pod(&pod);
    // Others are machines still.
    let machine = cri.run_pod(PodSpec::new("machine"));
    let container = cri.start_new(&machine, ContainerSpec::idle("main"));
    let own = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_ne!(cri.sh(&container, "cat /proc/sys/kernel/random/boot_id"), own.trim());
    cri.remove_pod(&machine);
    is_clean(&daemon);
}

#[test]
fn pods_that_need_the_node_are_refused_where_no_handler_is_set() {
    let daemon = Cuddyd::new();
    let mut spec = PodSpec::new("network").handler("");
    spec.namespaces().network = api::NamespaceMode::Node.into();
    let error = daemon.cri().try_run_pod(spec).unwrap_err();
    assert!(error.message().starts_with("hostNetwork: "), "{error}");
}

#[test]
fn nothing_that_is_written_while_the_daemon_is_away_is_lost() {
    const LINES: usize = 20_000;
    let mut daemon = daemon();
    let pod = daemon.cri().run_pod(on_node("stays"));
    let script =
        format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; exit 7");
    let container = daemon.cri().start_new(&pod, ContainerSpec::shell("main", &script));
    eventually("it writes", || output(&pod, "main").contains("line 100\n"));
    daemon.kill();
    daemon.start();
    let cri = daemon.cri();
    let ended = cri.exited(&container);
    assert_eq!(ended.exit_code, 7);
    let expected: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
    assert!(output(&pod, "main") == expected);
    cri.remove_pod(&pod);
    is_clean(&daemon);
}

#[test]
fn logs_go_on_when_the_companion_was_killed() {
    let daemon = daemon();
    let cri = daemon.cri();
    let pod = cri.run_pod(on_node("companion"));
    let script = "echo one; until [ -e /go ]; do sleep 0.1; done; echo two; exec sleep 1000";
    let container = cri.start_new(&pod, ContainerSpec::shell("main", script));
    eventually("it writes", || output(&pod, "main") == "one\n");
    let [companion] = host::processes("cuddy-streams")[..] else { panic!("one companion") };
    host::kill(companion);
    cri.sh(&container, "touch /go");
    eventually("another goes on", || output(&pod, "main") == "one\ntwo\n");
    let moved = log_path(&pod, "main").with_extension("old");
    std::fs::rename(log_path(&pod, "main"), moved).unwrap();
    cri.reopen_log(&container);
    assert_eq!(output(&pod, "main"), "");
    cri.remove_pod(&pod);
    is_clean(&daemon);
}

#[test]
fn pod_whose_shim_was_killed_has_ended_and_leaves_nothing() {
    let daemon = daemon();
    let cri = daemon.cri();
    let pod = cri.run_pod(on_node("shim"));
    let container = cri.start_new(&pod, ContainerSpec::idle("main"));
    for shim in host::processes("containerd-shim-runc-v2") {
        host::kill(shim);
    }
    let ended = cri.exited(&container);
    assert_eq!(ended.exit_code, 137);
    eventually("the pod is not ready", || !cri.ready(&pod));
    cri.remove_pod(&pod);
    is_clean(&daemon);
}

#[test]
fn containers_share_layers_and_processes() {
    let daemon = daemon();
    let cri = daemon.cri();
    let pod = cri.run_pod(on_node("shared").shared_processes());
    let one = cri.start_new(&pod, ContainerSpec::idle("one").shared_processes());
    let two = cri.start_new(&pod, ContainerSpec::idle("two").shared_processes());
    assert_eq!(cri.sh(&one, "cat /proc/1/comm"), "pause");
    assert_eq!(cri.sh(&two, "cat /proc/1/comm"), "pause");
    let layers = || std::fs::read_dir(daemon.path("state/layers")).unwrap().count();
    let before = layers();
    cri.remove(&one);
    assert_eq!(layers(), before);
    cri.sh(&two, "echo still there");
    cri.remove(&two);
    assert_eq!(layers(), 0);
    cri.remove_pod(&pod);
    is_clean(&daemon);
}

#[test]
fn image_is_a_volume_and_no_part_of_it_is_the_nodes() {
    let daemon = daemon();
    let cri = daemon.cri();
    let pod = cri.run_pod(on_node("volumes"));
    let image = api::ImageSpec { image: "cuddy.test/busybox:latest".into(), ..Default::default() };
    let volume = |place: &str, part: &str| api::Mount {
        container_path: place.into(),
        image: Some(image.clone()),
        image_sub_path: part.into(),
        readonly: true,
        ..Default::default()
    };
    let spec = ContainerSpec::idle("main").mounted(volume("/whole", ""));
    let container = cri.start_new(&pod, spec.mounted(volume("/part", "bin")));
    assert_eq!(
        cri.sh(&container, "/whole/bin/busybox echo one; /part/busybox echo two"),
        "one\ntwo"
    );
    let script = "touch /whole/new || touch /part/new || echo neither";
    assert_eq!(cri.sh(&container, script), "neither");
    for part in ["missing", "bin/busybox", "../x", "/etc"] {
        let spec = ContainerSpec::idle("refused").mounted(volume("/data", part));
        let error = cri.try_create(&pod, spec).unwrap_err().to_string();
        assert!(error.contains("ImageVolumeMountFailed") && error.contains(part), "{error}");
    }
    cri.remove_pod(&pod);
    is_clean(&daemon);
}

#[test]
fn what_a_container_uses_and_may_use_is_told() {
    let daemon = daemon();
    let cri = daemon.cri();
    let pod = cri.run_pod(on_node("limits"));
    let hungry = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x";
    let idle = cri.start_new(&pod, ContainerSpec::idle("idle").memory(64 << 20));
    let stats = cri.stats(&idle);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    assert!(cri.pod_stats(&pod).linux.unwrap().cpu.is_some());
    let killed = cri.start_new(&pod, ContainerSpec::shell("hungry", hungry).memory(16 << 20));
    let ended = cri.exited(&killed);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
    cri.remove_pod(&pod);
    is_clean(&daemon);
}

#[test]
fn privileged_container_has_the_nodes_devices() {
    let daemon = daemon();
    let cri = daemon.cri();
    let mut spec = PodSpec::new("privileged").handler("");
    let context =
        spec.config.linux.get_or_insert_default().security_context.get_or_insert_default();
    context.privileged = true;
    let pod = cri.run_pod(spec);
    let mut spec = ContainerSpec::idle("main");
    spec.security().privileged = true;
    let container = cri.start_new(&pod, spec);
    cri.sh(&container, "test -c /dev/loop-control && test -w /sys/fs/cgroup");
    cri.remove_pod(&pod);
    is_clean(&daemon);
}
