//! The shim as containerd sees it, up to the point where a machine is needed. The tests show start,
//! the Task service's answers, delete, and that nothing is left.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

#[path = "host/daemon.rs"]
mod host;

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use containerd_shim_protos::api::{
    ConnectRequest, CreateTaskRequest, DeleteResponse, PidsRequest, ShutdownRequest, StateRequest,
};
use containerd_shim_protos::types::mount::Mount;
use host::{Host, code};
use protobuf::Message;
use ttrpc::Code;
use ttrpc::context::Context;

#[tokio::test]
async fn daemon_serves_and_leaves_nothing_after_shutdown() {
    let host = Host::new();
    let address = host.start();
    // A second start finds the first one's daemon, in whatever form it asks.
    assert_eq!(host.start(), address);
    assert_eq!(std::fs::read_to_string(host.bundle().join("address")).unwrap(), address);
    let client = Host::connect(&address).await;
    let request = ConnectRequest { id: "web".into(), ..ConnectRequest::default() };
    let connected = client.connect(Context::default(), &request).await.unwrap();
    assert!(connected.shim_pid > 1 && connected.task_pid == 0);
    let request = PidsRequest { id: "web".into(), ..PidsRequest::default() };
    assert_eq!(code(client.pids(Context::default(), &request).await).0, Code::NOT_FOUND);
    let request = ShutdownRequest { id: "web".into(), ..ShutdownRequest::default() };
    client.shutdown(Context::default(), &request).await.unwrap();
    assert!(!Host::socket(&address).exists());
    Host::gone(connected.shim_pid);
    host.nothing_left();
}

#[tokio::test]
async fn create_fails_with_the_true_reason_and_the_daemon_lives_on() {
    let host = Host::new();
    let address = host.start();
    let client = Host::connect(&address).await;
    let mut request = CreateTaskRequest {
        id: "web".into(),
        bundle: host.bundle().display().to_string(),
        ..CreateTaskRequest::default()
    };
    let (why, text) = code(client.create(Context::default(), &request).await);
    assert!(why == Code::INVALID_ARGUMENT && text.contains("config.json"), "{text}");
    std::fs::write(host.bundle().join("config.json"), r#"{"process":{"args":["sh"]}}"#).unwrap();
    request.rootfs = vec![Mount { type_: "zfs".into(), ..Mount::default() }];
    let (why, text) = code(client.create(Context::default(), &request).await);
    assert!(why == Code::INVALID_ARGUMENT && text.contains("\"zfs\""), "{text}");
    request.rootfs = Vec::new();
    let (_, text) = code(client.create(Context::default(), &request).await);
    assert!(text.contains("guest kernel") && text.contains("vmlinux"), "{text}");
    let state = StateRequest { id: "web".into(), ..StateRequest::default() };
    assert_eq!(code(client.state(Context::default(), &state).await).0, Code::NOT_FOUND);
    let output = host.shim(&["-bundle", &host.bundle().display().to_string(), "delete"], b"");
    assert!(output.status.success(), "{output:?}");
    assert!(UnixStream::connect(Host::socket(&address)).is_err());
    host.nothing_left();
}

#[tokio::test]
async fn delete_works_without_daemon_configuration_or_state_again_and_again() {
    let host = Host::new();
    for _ in 0..2 {
        let output = host.shim(&["delete"], b"");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let response = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
        assert_eq!(response.exit_status, 137);
        assert!(response.exited_at.seconds > 0);
    }
}

#[tokio::test]
async fn killed_daemon_is_replaced_by_the_next_start_and_cleaned_by_delete() {
    let host = Host::new();
    let address = host.start();
    let client = Host::connect(&address).await;
    let request = ConnectRequest { id: "web".into(), ..ConnectRequest::default() };
    let first = client.connect(Context::default(), &request).await.unwrap().shim_pid;
    let pid = rustix::process::Pid::from_raw(first.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    Host::gone(first);
    assert_eq!(host.start(), address);
    let client = Host::connect(&address).await;
    let second = client.connect(Context::default(), &request).await.unwrap().shim_pid;
    assert_ne!(first, second);
    assert!(host.shim(&["delete"], b"").status.success());
    Host::gone(second);
    host.nothing_left();
}

#[test]
fn configuration_with_an_unknown_key_fails_the_start_by_name() {
    let host = Host::new();
    std::fs::write(host.path("config.toml"), "kernal = '/x'\n").unwrap();
    let output = host.shim(&["start"], b"");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(text.contains("\"kernal\"") && text.contains("\"kernel\""), "{text}");
    assert!(!host.path("run/test").exists());
}

#[test]
fn older_containerd_gets_the_bare_address() {
    let host = Host::new();
    let output = host.shim(&["start"], b"");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let address = String::from_utf8(output.stdout).unwrap();
    assert!(address.starts_with("unix:///run/containerd/s/"), "{address}");
    assert!(!address.ends_with('\n'));
    assert!(host.shim(&["delete"], b"").status.success());
    assert!(!Host::socket(&address).exists());
}

#[test]
fn info_needs_no_names_and_touches_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-cuddy-v2"));
    let output = command.arg("-info").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(!output.stdout.is_empty());
}

#[tokio::test]
async fn sandbox_of_the_same_name_under_another_daemon_is_left_alone() {
    let mut host = Host::new();
    let address = host.start();
    let client = Host::connect(&address).await;
    let request = ConnectRequest { id: "web".into(), ..ConnectRequest::default() };
    let shim = client.connect(Context::default(), &request).await.unwrap().shim_pid;
    host.containerd = "another";
    let output = host.shim(&["start"], b"");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("belongs to the containerd at"), "{text}");
    assert!(host.shim(&["delete"], b"").status.success());
    let connected = client.connect(Context::default(), &request).await.unwrap();
    assert_eq!(connected.shim_pid, shim);
    host.containerd = "containerd";
    assert!(host.shim(&["delete"], b"").status.success());
    Host::gone(shim);
}
