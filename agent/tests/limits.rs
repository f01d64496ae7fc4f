//! Limits enforced by cgroup v2. They need root, a static busybox and all controllers; `make e2e`
//! runs them in the lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "support/agent.rs"]
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
    assert_eq!(out, "67108864\n50000 100000\n59\n20\n33554432\n");
    let update = UpdateContainerRequest {
        container_id: container.id.clone(),
        resources_json: br#"{"memory":{"limit":134217728},"cpu":{"quota":-1}}"#.to_vec(),
        ..UpdateContainerRequest::default()
    };
    agent.containers.update(context(), &update).await.unwrap();
    let (_, out) = container.run_exec(&read).await;
    assert_eq!(out, "134217728\nmax 100000\n59\n20\n33554432\n");
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

/// Reads files of the container's own cgroup.
async fn read(container: &support::Container<'_>, files: &str) -> String {
    let command = format!("cd /sys/fs/cgroup; for f in {files}; do echo $f $(cat $f); done");
    container.run_exec(&shell(&command)).await.1
}

#[tokio::test]
async fn every_kind_of_limit_reaches_its_file() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "exec sleep 100");
    spec["linux"]["resources"] = json!({
        "cpu": {"shares": 2048, "quota": 40_000, "period": 50_000, "burst": 20_000, "cpus": "0",
            "mems": "0"},
        "memory": {"limit": 67_108_864, "swap": 67_108_864, "reservation": 1_048_576},
        "pids": {"limit": -1},
        "blockIO": {"weight": 300},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
        "unified": {"memory.high": "33554432", "memory.oom.group": "1", "cgroup.max.depth": "3"}
    });
    let container = agent.create(&spec).await.unwrap();
    container.start("").await.unwrap();
    let files = "cpu.weight cpu.max cpu.max.burst cpuset.cpus cpuset.mems memory.max memory.low \
                 pids.max hugetlb.2MB.max memory.high memory.oom.group cgroup.max.depth";
    let expected = "cpu.weight 174\ncpu.max 40000 50000\ncpu.max.burst 20000\ncpuset.cpus 0\n\
                    cpuset.mems 0\nmemory.max 67108864\nmemory.low 1048576\npids.max max\n\
                    hugetlb.2MB.max 4194304\nmemory.high 33554432\nmemory.oom.group 1\n\
                    cgroup.max.depth 3\n";
    assert_eq!(read(&container, files).await, expected);
    let bandwidth = "cpu.max cpu.max.burst cpu.idle";
    for (resources, seen) in [
        // Half of it, in both directions; burst and quota that only fit in one order.
        (r#"{"cpu":{"quota":30000}}"#, "cpu.max 30000 50000\ncpu.max.burst 20000\ncpu.idle 0\n"),
        (r#"{"cpu":{"period":60000}}"#, "cpu.max 30000 60000\ncpu.max.burst 20000\ncpu.idle 0\n"),
        (
            r#"{"cpu":{"quota":10000,"burst":5000}}"#,
            "cpu.max 10000 60000\ncpu.max.burst 5000\ncpu.idle 0\n",
        ),
        (
            r#"{"cpu":{"quota":50000,"burst":40000}}"#,
            "cpu.max 50000 60000\ncpu.max.burst 40000\ncpu.idle 0\n",
        ),
        (
            r#"{"cpu":{"idle":1,"shares":5}}"#,
            "cpu.max 50000 60000\ncpu.max.burst 40000\ncpu.idle 1\n",
        ),
        (
            r#"{"cpu":{"idle":0,"shares":5}}"#,
            "cpu.max 50000 60000\ncpu.max.burst 40000\ncpu.idle 0\n",
        ),
    ] {
        update(&agent, &container, resources).await.unwrap();
        assert_eq!(read(&container, bandwidth).await, seen, "{resources}");
    }
    let checked = r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#;
    let error = update(&agent, &container, checked).await.unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert_eq!(read(&container, "memory.max").await, "memory.max 67108864\n");
    container.signal("", 9, true).await.unwrap();
    container.wait("").await;
    container.delete().await.unwrap();
}

async fn update(
    agent: &Agent,
    container: &support::Container<'_>,
    resources: &str,
) -> ttrpc::Result<()> {
    let update = UpdateContainerRequest {
        container_id: container.id.clone(),
        resources_json: resources.as_bytes().to_vec(),
        ..UpdateContainerRequest::default()
    };
    agent.containers.update(context(), &update).await.map(drop)
}

#[tokio::test]
async fn statistics_of_every_controller_are_there_until_deletion() {
    let agent = Agent::start().await;
    let container = agent.create(&spec(&agent.rootfs(), "exec sleep 100")).await.unwrap();
    container.start("").await.unwrap();
    for ended in [false, true] {
        if ended {
            container.signal("", 9, true).await.unwrap();
            container.wait("").await;
        }
        let stats = agent.containers.stats(context(), &container.message()).await.unwrap();
        for file in [
            "cpu.stat",
            "memory.current",
            "memory.stat",
            "memory.max",
            "memory.events",
            "memory.peak",
            "pids.current",
            "pids.max",
            "io.stat",
            "hugetlb.2MB.current",
            "hugetlb.2MB.max",
            "hugetlb.2MB.events",
            "rdma.current",
        ] {
            assert!(stats.files.contains_key(file), "{file}, ended: {ended}");
        }
    }
    container.delete().await.unwrap();
}

#[tokio::test]
async fn without_rules_no_device_opens_but_those_of_every_container() {
    let agent = Agent::start().await;
    let command = "head -c 1 /dev/zero | wc -c; head -c 1 /dev/extra | wc -c; echo $?";
    let mut spec = spec(&agent.rootfs(), command);
    spec["linux"]["devices"] =
        json!([{"path": "/dev/extra", "type": "c", "major": 10, "minor": 183}]);
    spec["linux"]["resources"] = json!(null);
    let (_, out, error) = agent.run(&spec).await;
    assert_eq!(out, "1\n0\n0\n");
    assert!(error.contains("Operation not permitted"), "{error}");
}

#[tokio::test]
async fn cgroup_belongs_to_the_user_where_it_is_writable() {
    let agent = Agent::start().await;
    let command = "mkdir /sys/fs/cgroup/mine && echo 0 > /sys/fs/cgroup/mine/cgroup.procs && \
                   grep ^0: /proc/self/cgroup; echo 1 > /sys/fs/cgroup/pids.max";
    let mut spec = spec(&agent.rootfs(), command);
    spec["process"]["user"] = json!({"uid": 7, "gid": 7});
    let mounts = spec["mounts"].as_array_mut().unwrap();
    let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
    cgroup["options"] = json!(["rw", "nosuid", "noexec", "nodev"]);
    let (_, out, error) = agent.run(&spec).await;
    assert_eq!(out, "0::/mine\n", "{error}");
    assert!(error.contains("Permission denied"), "{error}");
}

#[tokio::test]
async fn update_leaves_the_devices_of_a_container_alone() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "exec sleep 100");
    spec["linux"]["devices"] =
        json!([{"path": "/dev/extra", "type": "c", "major": 10, "minor": 183}]);
    spec["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 183, "access": "r"}]});
    let container = agent.create(&spec).await.unwrap();
    container.start("").await.unwrap();
    // The rules as they are on the host, where the numbers are others, come with every update.
    let resources = r#"{"pids": {"limit": 50}, "devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 223, "access": "rw"}]}"#;
    update(&agent, &container, resources).await.unwrap();
    let command = "head -c 1 /dev/extra | wc -c; cat /sys/fs/cgroup/pids.max";
    assert_eq!(container.run_exec(&shell(command)).await.1, "1\n50\n");
    container.signal("", 9, true).await.unwrap();
    container.wait("").await;
    container.delete().await.unwrap();
}

#[tokio::test]
async fn huge_pages_of_a_size_that_is_missing_can_not_be_had() {
    let agent = Agent::start().await;
    let mut spec = spec(&agent.rootfs(), "echo fine");
    spec["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]});
    assert_eq!(agent.run(&spec).await.1, "fine\n");
    spec["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]});
    let Err(error) = agent.create(&spec).await else { panic!("created") };
    let error = error.to_string();
    assert!(error.contains("hugetlb.3MB.max") && error.contains("INVALID_ARGUMENT"), "{error}");
}
