//! A guest before and while it is configured. They need root, a static busybox and all controllers;
//! `make e2e` runs them in the lab.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "support/agent.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod support;

use agent_api::sandbox::ConfigureRequest;
use agent_api::types::ContainerId;
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
    let (_, mut stream) = agent.stream().await;
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
