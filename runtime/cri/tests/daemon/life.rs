//! Lives of pods and containers, also while the daemon is away.

use harness::cri::api::{ContainerState, PodSandboxState};

use crate::node::{Node, container};

#[test]
fn pod_and_container_live_and_end_and_leave_nothing() {
    let node = Node::new();
    node.pull();
    let config = node.pod("web");
    let pod = node.run(&config).unwrap();
    assert_eq!(node.run(&config).unwrap(), pod, "the same pod is the same one");
    let id = node.create(&pod, &config, &container("main")).unwrap();
    assert_eq!(node.create(&pod, &config, &container("main")).unwrap(), id);
    assert_eq!(node.status(&id).state(), ContainerState::ContainerCreated);
    node.start_container(&id).unwrap();
    let running = node.status(&id);
    assert_eq!(running.state(), ContainerState::ContainerRunning);
    assert!(running.started_at >= running.created_at && running.created_at > 0);
    let shim = node.shims.of(&pod);
    shim.exit(&id, 7);
    let ended = node.exited(&id);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
    assert!(ended.finished_at >= ended.started_at);
    let mut calls = shim.calls();
    calls.retain(|call| !call.starts_with("Wait"));
    assert_eq!(calls, ["CreateSandbox", "StartSandbox", "Create", "List", "Start", "List"]);
    node.remove(&pod);
    node.is_clean();
    assert_eq!((node.executed("cni", "ADD"), node.executed("cni", "DEL")), (1, 1));
}

#[test]
fn what_ends_while_the_daemon_is_away_is_on_record_when_it_is_back() {
    let mut node = Node::new();
    node.pull();
    let (pod, container) = node.running("web");
    let (lost, of_lost) = node.running("lost");
    let before = [&pod, &lost].map(|pod| node.pod_status(pod));
    node.kill();
    node.shims.of(&pod).exit(&container, 7);
    node.shims.of(&lost).kill();
    node.start();
    let ended = node.exited(&container);
    assert_eq!(ended.exit_code, 7);
    assert_eq!(node.pod_status(&pod), before[0], "created_at and addresses are the same");
    assert_eq!(node.pod_status(&lost).state(), PodSandboxState::SandboxNotready);
    let ended = node.exited(&of_lost);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    assert!(ended.message.contains("shim ended while cuddyd was down"), "{ended:?}");
    assert_eq!(node.executed("cni", "ADD"), 2);
    node.remove(&pod);
    node.remove(&lost);
    node.is_clean();
}
