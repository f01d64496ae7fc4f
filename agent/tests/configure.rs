//! A guest before and while it is configured. They need root, a static busybox and all controllers;
//! `make e2e` runs them in the lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "support/agent.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::time::{Duration, Instant};

use agent_api::container::WaitOomRequest;
use agent_api::sandbox::ConfigureRequest;
use agent_api::types::{ContainerId, Empty};
use serde_json::json;
use support::{Agent, configuration, context, spec};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

/// All agents of a host have the pod's cgroup in common, which is what these tests change.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn nothing_is_served_before_configure() {
    let _alone = ALONE.lock().await;
    let agent = Agent::unconfigured().await;
    let nobody = ContainerId { container_id: "nobody".to_owned(), ..ContainerId::default() };
    let error = agent.containers.delete(context(), &nobody).await.unwrap_err().to_string();
    assert!(error.contains("FAILED_PRECONDITION"), "{error}");
    assert!(error.contains("the sandbox is not configured yet"), "{error}");
    // What is written to it might arrive after its end.
    let mut stream = agent.connection().await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "a stream was kept");
    let bad = ConfigureRequest { entropy: vec![7; 31], ..configuration() };
    let error = agent.sandbox.configure(context(), &bad).await.unwrap_err().to_string();
    assert!(error.contains("entropy"), "{error}");
    let error = agent.containers.delete(context(), &nobody).await.unwrap_err().to_string();
    assert!(error.contains("not configured yet"), "a failure has opened it: {error}");
    agent.sandbox.configure(context(), &configuration()).await.unwrap();
    let error = agent.containers.delete(context(), &nobody).await.unwrap_err().to_string();
    assert!(error.contains("NOT_FOUND"), "{error}");
    assert_eq!(agent.run(&spec(&agent.rootfs(), "echo runs")).await.1, "runs\n");
    let error = agent.sandbox.configure(context(), &configuration()).await.unwrap_err();
    assert!(error.to_string().contains("configured already"), "{error}");
}

/// Lifts the limit of the pod's cgroup, which outlives the agent.
struct Limited<'agent>(&'agent Agent);

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.cgroup("memory.max"), "max");
    }
}

#[tokio::test]
async fn a_kill_by_the_limit_of_all_is_the_containers_own() {
    const LIMIT: u64 = 48 << 20;
    let _alone = ALONE.lock().await;
    let agent = Agent::unconfigured().await;
    let limit = ConfigureRequest { memory_limit_bytes: LIMIT, ..configuration() };
    agent.sandbox.configure(context(), &limit).await.unwrap();
    let _limited = Limited(&agent);
    let text = |file: &str| std::fs::read_to_string(agent.cgroup(file)).unwrap();
    assert_eq!(text("memory.max"), format!("{LIMIT}\n"));
    assert_eq!(text("memory.oom.group"), "0\n");
    let small = agent.create(&spec(&agent.rootfs(), "exec sleep 100")).await.unwrap();
    small.start("").await.unwrap();
    let command = "tail -c 100m /dev/zero > /dev/null; echo $?; exec sleep 100";
    let mut large = spec(&agent.rootfs(), command);
    // A limit of its own that would allow more.
    large["linux"]["resources"] = json!({"memory": {"limit": 2 * LIMIT, "swap": 2 * LIMIT}});
    let large = agent.create(&large).await.unwrap();
    large.start("").await.unwrap();
    let wait = WaitOomRequest { container_id: large.id.clone(), ..WaitOomRequest::default() };
    let oom = agent.containers.wait_oom(context(), &wait).await.unwrap();
    assert_eq!((oom.count, oom.ended), (1, false));
    let stats = agent.containers.stats(context(), &small.message()).await.unwrap();
    assert!(stats.files["memory.events"].contains("oom_kill 0\n"), "{stats:?}");
    for container in [small, large] {
        container.signal("", 9, true).await.unwrap();
        container.wait("").await;
        container.delete().await.unwrap();
    }
}

/// What a directory has in it, sorted.
fn listing(path: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Where a container would leave something: mounts, descriptors of the agent, cgroups.
fn traces(agent: &Agent) -> (String, usize, Vec<String>) {
    let mounts = std::fs::read_to_string(agent.proc("mountinfo")).unwrap();
    (mounts, listing(&agent.proc("fd")).len(), listing(&agent.cgroup("")))
}

/// Waits until all is as before: the agent lets go of a process once it has heard of its end.
async fn settle(agent: &Agent, before: &(String, usize, Vec<String>)) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while traces(agent) != *before {
        assert!(Instant::now() < deadline, "{:?} is not {before:?}", traces(agent));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn warming_leaves_nothing_and_ends_with_configure() {
    let _alone = ALONE.lock().await;
    let agent = Agent::unconfigured().await;
    let nobody = ContainerId { container_id: "cuddy-warm".to_owned(), ..ContainerId::default() };
    // From here on the agent has the connection of this client.
    agent.containers.delete(context(), &nobody).await.unwrap_err();
    let before = traces(&agent);
    // Twice: the first leaves nothing that the second meets.
    for _ in 0..2 {
        agent.sandbox.warm(context(), &Empty::new()).await.unwrap();
        assert!(!agent.proc("root/run/cuddy/warm").exists());
        settle(&agent, &before).await;
    }
    agent.sandbox.configure(context(), &configuration()).await.unwrap();
    let error = agent.containers.delete(context(), &nobody).await.unwrap_err().to_string();
    assert!(error.contains("NOT_FOUND"), "{error}");
    let error = agent.sandbox.warm(context(), &Empty::new()).await.unwrap_err().to_string();
    assert!(error.contains("configured already"), "{error}");
    assert_eq!(agent.run(&spec(&agent.rootfs(), "echo runs")).await.1, "runs\n");
}
