//! Our own daemon, as a kubelet uses it: images, pods, containers, restarts.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::path::Path;

use harness::cri::api::{self, ContainerState};
use harness::cri::{Container, ContainerSpec, Cri, Cuddyd, PodSpec};
use harness::eventually;

fn status(cri: &Cri, container: &Container) -> api::ContainerStatus {
    let container_id = container.id.clone();
    let request = api::ContainerStatusRequest { container_id, verbose: false };
    let mut runtime = cri.runtime_service();
    cri.wait(runtime.container_status(request)).unwrap().status.unwrap()
}

fn log_of(pod: &harness::cri::Pod, name: &str) -> String {
    let path = Path::new(&pod.config.log_directory).join(format!("{name}-0.log"));
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn pod_lives_and_ends_without_another_daemon() {
    let daemon = Cuddyd::new();
    let cri = daemon.cri();
    let image = daemon.pull("busybox");
    assert!(image.starts_with("sha256:"), "{image}");
    let pod = cri.run_pod(PodSpec::new("first"));
    let script = "echo hello; trap 'echo bye; exit 3' TERM; while :; do sleep 1000 & wait $!; done";
    let container = cri.start_new(&pod, ContainerSpec::shell("main", script));
    assert_eq!(cri.exec_sync(&container, &["echo", "there"]).ok(), "there\n");
    assert_eq!(status(&cri, &container).state(), ContainerState::ContainerRunning);
    eventually("the log has the first line", || log_of(&pod, "main").contains("stdout F hello\n"));
    cri.stop(&container, 20);
    let ended = status(&cri, &container);
    assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 3));
    assert!(log_of(&pod, "main").contains("stdout F bye\n"));
    assert_eq!(ended.image_ref, image);
    cri.remove(&container);
    cri.remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}

#[test]
fn pods_outlive_the_daemon() {
    let mut daemon = Cuddyd::new();
    daemon.pull("busybox");
    let pod = daemon.cri().run_pod(PodSpec::new("stays"));
    let stays = daemon.cri().start_new(&pod, ContainerSpec::idle("stays"));
    let ends = ContainerSpec::shell("ends", "until [ -e /go ]; do sleep 0.1; done; exit 7");
    let ends = daemon.cri().start_new(&pod, ends);
    let before = status(&daemon.cri(), &stays);
    let touch = "(sleep 5; touch /go) >/dev/null 2>&1 &";
    daemon.cri().exec_sync(&ends, &["sh", "-c", touch]).ok();
    daemon.kill();
    daemon.start();
    let cri = daemon.cri();
    assert_eq!(status(&cri, &stays), before);
    assert_eq!(cri.exec_sync(&stays, &["echo", "there"]).ok(), "there\n");
    eventually("the end is known", || {
        status(&cri, &ends).state() == ContainerState::ContainerExited
    });
    assert_eq!(status(&cri, &ends).exit_code, 7);
    cri.remove_pod(&pod);
    assert!(daemon.remains().is_empty(), "{:?}", daemon.remains());
}
