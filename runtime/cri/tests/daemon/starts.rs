//! Starts of pods: by callers who have no time or go away, and those that fail half-way.

use std::time::Duration;

use harness::eventually;
use tonic::{Code, Status};

use crate::node::Node;
use crate::shims::{Gate, Say};

/// The plugin's ADD waits for the file `gate`.
const GATED: &str = "[ $CNI_COMMAND != ADD ] || until [ -e $at/gate ]; do sleep 0.02; done";

/// Runs a pod, and hangs up as soon as `begun`.
fn hang_up(node: &Node, name: &str, begun: impl Fn() -> bool) {
    let config = node.pod(name);
    let request = harness::cri::api::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    };
    let mut service = node.cri().runtime_service();
    let gone = node.cri().wait(async {
        let seen = async {
            while !begun() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = service.run_pod_sandbox(request) => answer,
            () = seen => Err(Status::cancelled("hung up")),
        }
    });
    assert_eq!(gone.unwrap_err().message(), "hung up");
}

#[test]
fn pod_whose_caller_ran_out_of_time_is_there_for_the_next_call() {
    let node = Node::new();
    node.script("cni.sh", GATED);
    let config = node.pod("late");
    let limit = Some(Duration::from_secs(1));
    let late = node.run_within(&config, limit).unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    let again = node.run_within(&config, limit).unwrap_err();
    assert!(matches!(again.code(), Code::DeadlineExceeded | Code::Cancelled), "{again:?}");
    assert!(node.pods().is_empty(), "what is half made is not shown");
    std::fs::write(node.path("gate"), "").unwrap();
    let id = node.run(&config).unwrap();
    assert_eq!(node.executed("cni", "ADD"), 1);
    assert_eq!(node.shims.of(&id).count("CreateSandbox"), 1);
    assert_eq!(node.run(&config).unwrap(), id);
    assert_eq!(node.pod_status(&id).network.unwrap().ip, "10.0.0.2");
    node.remove(&id);
    node.is_clean();
}

#[test]
fn pod_whose_caller_hung_up_is_undone() {
    let node = Node::new();
    node.script("cni.sh", GATED);
    hang_up(&node, "unwanted", || node.executed("cni", "ADD") == 1);
    eventually("the pod is undone", || node.remains().is_empty());
    assert!(node.executed("cni", "DEL") > 0);
    node.is_clean();
    // While its machine boots, and while it becomes ready.
    node.script("cni.sh", "");
    for step in ["CreateSandbox", "StartSandbox"] {
        let gate = Gate::new();
        node.shims.say(step, Say::Wait(gate.clone()));
        let deletes = node.executed("shim", "delete");
        let starts = node.executed("shim", "start");
        let begun = || node.executed("shim", "start") > starts && taken(&node, step);
        hang_up(&node, "unwanted", begun);
        eventually("the pod is undone", || node.remains().is_empty());
        assert_eq!(node.executed("shim", "delete"), deletes + 1);
        gate.open();
        node.is_clean();
    }
    node.shims.usual();
    let id = node.run(&node.pod("unwanted")).unwrap();
    node.remove(&id);
    node.is_clean();
}

/// Whether the shim that was taken last has been asked for this.
fn taken(node: &Node, step: &str) -> bool {
    let taken = std::fs::read_dir(node.path("taken")).unwrap().map(|entry| entry.unwrap());
    taken.into_iter().any(|entry| {
        let id = entry.file_name().into_string().unwrap();
        node.remains().contains(&format!("state/bundles/{id}"))
            && node.shims.of(&id).count(step) == 1
    })
}

#[test]
fn pod_that_can_not_be_started_leaves_nothing() {
    let node = Node::with(12);
    let fails = "[ $CNI_COMMAND != ADD ] || { echo half >$at/half; echo \
                 '{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"no address is free\"}'; exit 1; }";
    let nonsense = "[ $CNI_COMMAND != ADD ] || { echo '{\"ips\": 5'; exit 0; }";
    let no_address = "[ $CNI_COMMAND != ADD ] || { echo '{\"cniVersion\":\"1.0.0\"}'; exit 0; }";
    let boot = "[ $last != start ] || { echo 'no /dev/kvm on this node' >&2; exit 1; }";
    let answer = "[ $last != start ] || { echo gibberish; exit 0; }";
    for (cni, shim, word) in [
        (fails, "", "no address is free"),
        (nonsense, "", "plugin"),
        (no_address, "", "no address"),
        ("", boot, "no /dev/kvm on this node"),
        ("", answer, "gibberish"),
        (fails, boot, "no address is free"),
    ] {
        node.script("cni.sh", cni);
        node.script("shim.sh", shim);
        let refused = node.run(&node.pod("web")).unwrap_err();
        assert!(refused.message().contains(word), "{word}: {refused:?}");
        node.is_clean();
    }
    node.script("cni.sh", "");
    node.script("shim.sh", "");
    for step in ["CreateSandbox", "StartSandbox"] {
        node.shims.say(step, Say::Refuse(ttrpc::Code::UNKNOWN, "the guest does not come up"));
        let refused = node.run(&node.pod("web")).unwrap_err();
        assert!(refused.message().contains("the guest does not come up"), "{refused:?}");
        node.is_clean();
    }
    node.shims.usual();
    let plugin = node.path("bin/plugin");
    std::fs::rename(&plugin, node.path("bin/away")).unwrap();
    let refused = node.run(&node.pod("web")).unwrap_err();
    assert!(refused.message().contains("plugin"), "{refused:?}");
    std::fs::rename(node.path("bin/away"), &plugin).unwrap();
    // What can't be taken down without the plugin is kept until it can.
    node.pods().iter().for_each(|pod| node.remove(&pod.id));
    node.is_clean();
    let mut unknown = harness::cri::api::RunPodSandboxRequest {
        config: Some(node.pod("web")),
        runtime_handler: "katta".to_owned(),
    };
    let mut service = node.cri().runtime_service();
    let refused = node.cri().wait(service.run_pod_sandbox(unknown.clone())).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "no runtime handler \"katta\": there are \"cuddy\"");
    unknown.runtime_handler.clear();
    let id = node.cri().wait(service.run_pod_sandbox(unknown)).unwrap().pod_sandbox_id;
    node.remove(&id);
    node.is_clean();
}
