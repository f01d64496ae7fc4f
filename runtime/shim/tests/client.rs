//! The real shim binary in the hands of the crate by which our daemon drives shims, as far as no
//! machine is needed.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

#[path = "host/daemon.rs"]
mod host;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::request::{CreateRequest, StdioPaths, Target};
use api::{ContainerId, Namespace, SandboxId};
use host::{Host, SOON};
use rustix::process::{Pid, Signal, kill_process};
use shim_client::{Daemon, Error, Listing, Runtime, SandboxRequest, Shim, TaskVersion};

/// A host's runtime, for a daemon of the host.
fn runtime(host: &Host) -> Runtime {
    let path = |name: &str| host.path(name).into_os_string();
    let daemon = Daemon {
        namespace: Namespace::new("test").unwrap(),
        address: host.path(host.containerd).display().to_string(),
        events: String::new(),
        publish_binary: "/bin/true".into(),
        log_level: log::Level::Debug,
        socket_dir: Some(host.path("s")),
        version: "1.0".into(),
        environment: vec![
            ("CUDDY_RUN".into(), path("run")),
            ("CUDDY_CONFIG".into(), path("config.toml")),
        ],
    };
    let binary = env!("CARGO_BIN_EXE_containerd-shim-cuddy-v2");
    Runtime::find(binary, OsStr::new(""), Arc::new(daemon)).unwrap().within(SOON)
}

fn id() -> ContainerId {
    ContainerId::new("web").unwrap()
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

fn socket(bundle: &Path) -> PathBuf {
    let address = std::fs::read_to_string(bundle.join("address")).unwrap();
    Host::socket(&address).to_owned()
}

#[tokio::test]
async fn shim_is_started_found_again_and_ended() {
    let host = Host::new();
    let (runtime, bundle) = (runtime(&host), host.bundle());
    let info = runtime.info().await.unwrap().unwrap();
    assert_eq!(info.name, "io.containerd.cuddy.v2");
    assert!(info.annotations["containerd.io/runtime-allow-mounts"].contains("erofs"));
    let features = info.features.unwrap();
    assert!(features.type_url.ends_with("Features") && features.value.starts_with(b"{"));

    let shim = runtime.start(&bundle, &id(), None).await.unwrap();
    assert_eq!(shim.version(), TaskVersion::V3);
    assert!(socket(&bundle).starts_with(host.path("s")));
    // Another start of the same pod finds the same one.
    let same = runtime.start(&bundle, &id(), None).await.unwrap();
    assert_eq!(same.pid(), shim.pid());
    let again = Shim::reconnect(&bundle, SOON).await.unwrap();
    assert_eq!((again.pid(), again.version()), (shim.pid(), TaskVersion::V3));

    let target = Target { container: id(), exec: None };
    for unknown in [
        shim.state(&target).await.map(drop),
        shim.pids(&id()).await.map(drop),
        shim.wait(&target).await.map(drop),
        shim.own().reopen_log(&id()).await,
    ] {
        let error = unknown.unwrap_err();
        assert!(matches!(&error, Error::NotFound(text) if text.contains("web")), "{error}");
    }
    assert_eq!(shim.own().list().await, Ok(Listing::default()));
    assert!(shim.own().metrics().await.unwrap().pod.is_none());

    let pid = shim.pid();
    shim.shutdown(&id(), false).await.unwrap();
    for handle in [&shim, &same, &again] {
        tokio::time::timeout(SOON, handle.closed()).await.unwrap();
    }
    Host::gone(pid);
    let gone = Shim::reconnect(&bundle, SOON).await.unwrap_err();
    assert!(matches!(gone, Error::Gone(_)), "{gone}");
    assert_eq!(runtime.delete(&bundle, &id()).await.unwrap().status, 137);
    host.nothing_left();
}

#[tokio::test]
async fn killed_shim_is_seen_at_once_and_cleaned_up_after() {
    let host = Host::new();
    let (runtime, bundle) = (runtime(&host), host.bundle());
    let shim = runtime.start(&bundle, &id(), None).await.unwrap();
    let sandbox = SandboxId::new("web").unwrap();
    kill(shim.pid(), Signal::KILL);
    tokio::time::timeout(SOON, shim.closed()).await.unwrap();
    let error = shim.sandbox(sandbox).ping().await.unwrap_err();
    assert!(matches!(error, Error::Disconnected(_)), "{error}");
    Host::gone(shim.pid());
    let gone = Shim::reconnect(&bundle, SOON).await.unwrap_err();
    assert!(matches!(&gone, Error::Gone(text) if text.contains("refused")), "{gone}");
    for _ in 0..2 {
        assert_eq!(runtime.delete(&bundle, &id()).await.unwrap().status, 137);
    }
    host.nothing_left();
}

#[tokio::test]
async fn stopped_shim_does_not_answer_and_is_not_taken_for_gone() {
    let host = Host::new();
    let (runtime, bundle) = (runtime(&host), host.bundle());
    let shim = runtime.start(&bundle, &id(), None).await.unwrap();
    kill(shim.pid(), Signal::STOP);
    let briefly = Duration::from_millis(300);
    let mute = Shim::reconnect(&bundle, briefly).await.unwrap_err();
    assert!(matches!(mute, Error::DeadlineExceeded(_)), "{mute}");
    let late = shim.within(briefly).connect(&id()).await.unwrap_err();
    assert!(matches!(late, Error::DeadlineExceeded(_)), "{late}");
    kill(shim.pid(), Signal::CONT);
    // The connection has outlived it.
    assert_eq!(shim.connect(&id()).await.unwrap().shim_pid, shim.pid());
    runtime.delete(&bundle, &id()).await.unwrap();
    Host::gone(shim.pid());
    host.nothing_left();
}

#[tokio::test]
async fn reasons_of_the_shim_arrive_with_their_kind() {
    let host = Host::new();
    let (runtime, bundle) = (runtime(&host), host.bundle());
    let shim = runtime.start(&bundle, &id(), None).await.unwrap();
    let request = CreateRequest {
        id: id(),
        bundle: bundle.clone(),
        rootfs: Vec::new(),
        stdio: StdioPaths::default(),
    };
    let error = shim.create(&request, None).await.unwrap_err();
    assert!(matches!(&error, Error::InvalidArgument(text) if text.contains("config.json")));
    let sandbox = shim.sandbox(SandboxId::new("web").unwrap());
    let error = sandbox.start().await.unwrap_err();
    assert!(matches!(&error, Error::FailedPrecondition(text) if text.contains("not created")));
    let error = sandbox.status(true).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    let error = sandbox.create(&SandboxRequest::default()).await.unwrap_err();
    assert!(error.to_string().contains("vmlinux"), "{error}");
    sandbox.shutdown().await.unwrap();
    tokio::time::timeout(SOON, shim.closed()).await.unwrap();
    host.nothing_left();
}

#[tokio::test]
async fn start_that_fails_says_why() {
    let host = Host::new();
    std::fs::write(host.path("config.toml"), "kernal = '/x'\n").unwrap();
    let error = runtime(&host).start(&host.bundle(), &id(), None).await.unwrap_err();
    assert!(matches!(&error, Error::Command(text) if text.contains("\"kernal\"")), "{error}");
    let gone = Shim::reconnect(&host.bundle(), SOON).await.unwrap_err();
    assert!(matches!(gone, Error::Gone(_)), "{gone}");
    // What comes next works, whatever has failed.
    assert_eq!(runtime(&host).delete(&host.bundle(), &id()).await.unwrap().status, 137);
}
