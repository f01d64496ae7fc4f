//! Limits enforced by cgroup v2. They need root, a static busybox and all controllers; `make e2e`
//! runs them in the lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use agent_api::container::{UpdateContainerRequest, WaitOomRequest};
use serde_json::json;
use support::{Agent, context, shell, spec};

#[tokio::test]
async fn limits_are_in_the_cgroup_and_can_be_updated() {
    let agent = Agent::start().await;
    let command = "cd /sys/fs/cgroup; cat memory.max cpu.max cpu.weight pids.max memory.low; \
                   exec sleep 100";
    let mut spec = spec(&agent.rootfs(), command);
    spec["linux"]["resources"] = json!({
        "memory": {"limit": 67_108_864, "reservation": 33_554_432},
        "cpu": {"shares": 512, "quota": 50000, "period": 100_000},
        "pids": {"limit": 20}
    });
    let container = agent.create(&spec).await.unwrap();
    container.start("").await.unwrap();
    let read = shell("cd /sys/fs/cgroup; cat memory.max cpu.max cpu.weight pids.max memory.low");
    let (_, out) = container.run_exec(&read).await;
    assert_eq!(out, "67108864\n50000 100000\n20\n20\n33554432\n");
    let update = UpdateContainerRequest {
        container_id: container.id.clone(),
        resources_json: br#"{"memory":{"limit":134217728},"cpu":{"quota":-1}}"#.to_vec(),
        ..UpdateContainerRequest::default()
    };
    agent.containers.update(context(), &update).await.unwrap();
    let (_, out) = container.run_exec(&read).await;
    assert_eq!(out, "134217728\nmax 100000\n20\n20\n33554432\n");
    let stats = agent.containers.stats(context(), &container.message()).await.unwrap();
    for file in ["cpu.stat", "memory.current", "memory.events", "pids.current", "io.stat"] {
        assert!(stats.files.contains_key(file), "{file}");
    }
    container.signal("", 9, true).await.unwrap();
    container.wait("").await;
    let stats = agent.containers.stats(context(), &container.message()).await.unwrap();
    assert_eq!(stats.files["pids.current"], "0\n");
    assert!(stats.files["cpu.stat"].contains("usage_usec"));
    container.delete().await.unwrap();
}

#[tokio::test]
async fn an_oom_kill_is_counted_before_the_exit_is_known() {
    let agent = Agent::start().await;
    let command = "tail -c 100m /dev/zero > /dev/null; echo survived $?; exec sleep 100";
    let mut spec = spec(&agent.rootfs(), command);
    spec["linux"]["resources"] = json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}});
    let container = agent.create(&spec).await.unwrap();
    container.start("").await.unwrap();
    let wait = WaitOomRequest { container_id: container.id.clone(), ..WaitOomRequest::default() };
    let oom = agent.containers.wait_oom(context(), &wait).await.unwrap();
    assert_eq!((oom.count, oom.ended), (1, false));
    let next = WaitOomRequest { seen: oom.count, ..wait };
    let waiting = agent.containers.wait_oom(context(), &next);
    let ending = async {
        container.signal("", 9, true).await.unwrap();
        assert_eq!(container.wait("").await.exit_status, 137);
        container.delete().await.unwrap();
    };
    let (end, ()) = tokio::join!(waiting, ending);
    assert!(end.unwrap().ended);
}

#[tokio::test]
async fn a_limit_of_processes_holds() {
    let agent = Agent::start().await;
    let command = "for i in 1 2 3 4 5 6 7 8; do sleep 50 & done; echo unreachable";
    let mut spec = spec(&agent.rootfs(), command);
    spec["linux"]["resources"] = json!({"pids": {"limit": 4}});
    let (status, out, error) = agent.run(&spec).await;
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(error.contains("can't fork"), "{error}");
}

#[tokio::test]
async fn only_allowed_devices_open() {
    let agent = Agent::start().await;
    let command = "head -c 1 /dev/zero | wc -c; mknod /dev/mem2 c 1 1 && chmod 666 /dev/mem2; \
                   head -c 1 /dev/mem2 2>&1; head -c 1 /dev/extra | wc -c; echo x > /dev/extra";
    let mut spec = spec(&agent.rootfs(), command);
    spec["linux"]["devices"] =
        json!([{"path": "/dev/extra", "type": "c", "major": 10, "minor": 183, "fileMode": 384}]);
    spec["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 183, "access": "r"}]});
    let (_, out, error) = agent.run(&spec).await;
    assert_eq!(out, "1\nhead: /dev/mem2: Operation not permitted\n1\n");
    assert!(error.contains("Operation not permitted"), "{error}");
}
