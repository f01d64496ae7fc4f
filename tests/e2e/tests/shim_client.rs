//! Both runtimes, driven by the crate with which our daemon drives shims. A container lives while
//! its daemon starts again, and a shim dies.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::events::{EventKind, Exit};
use api::request::{CreateRequest, ExecRequest, Mount, StdioPaths, Target};
use api::{ContainerId, ExecId, Namespace};
use harness::shim::busybox_root;
use harness::{PATIENCE, host};
use serde_json::{Value, json};
use shim_client::events::{Events, News, Published};
use shim_client::{Daemon, Error, Runtime, Shim, Status, TaskVersion};
use tokio::sync::mpsc;

const CUDDY: &str = "io.containerd.cuddy.v2";
const RUNC: &str = "io.containerd.runc.v2";

/// The signal that nobody can ignore.
const KILL: u32 = 9;

/// A daemon with one container's bundle, in a directory of its own.
struct Host {
    dir: tempfile::TempDir,
    runtime: Runtime,
    id: ContainerId,
}

impl Host {
    fn new(runtime: &str, id: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon {
            namespace: Namespace::new("e2e").unwrap(),
            address: "/e2e".into(),
            events: dir.path().join("events").display().to_string(),
            publish_binary: "/bin/true".into(),
            log_level: log::Level::Info,
            socket_dir: None,
            version: "1.0".into(),
            environment: Vec::new(),
        };
        let path = std::env::var_os("PATH").unwrap();
        let runtime = Runtime::find(runtime, &path, Arc::new(daemon)).unwrap();
        let host = Self { dir, runtime, id: ContainerId::new(id).unwrap() };
        std::fs::create_dir_all(host.bundle().join("rootfs")).unwrap();
        let config = json!({
            "ociVersion": "1.1.0",
            "process": process("echo out; exec sleep 1000"),
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            ],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}]},
        });
        std::fs::write(host.bundle().join("config.json"), config.to_string()).unwrap();
        host
    }

    /// Named as the container, as containerd's shims want it.
    fn bundle(&self) -> PathBuf {
        self.dir.path().join(self.id.as_str())
    }

    fn output(&self, of: &str) -> StdioPaths {
        let stdout = format!("file://{}", self.dir.path().join(of).display());
        // The shim of containerd 1.6 dies of a file for one output alone.
        StdioPaths { stderr: stdout.clone(), stdout, ..StdioPaths::default() }
    }

    fn written(&self, by: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(by)).unwrap_or_default()
    }

    fn init(&self) -> Target {
        Target { container: self.id.clone(), exec: None }
    }

    /// Starts the shim and in it the container, whose process has said something.
    async fn run(&self) -> Shim {
        let shim = self.runtime.start(&self.bundle(), &self.id, None).await.unwrap();
        let root = busybox_root(self.dir.path());
        let request = CreateRequest {
            id: self.id.clone(),
            bundle: self.bundle(),
            rootfs: vec![Mount {
                fstype: "bind".into(),
                source: root.display().to_string(),
                options: vec!["rbind".into(), "rw".into()],
                ..Mount::default()
            }],
            stdio: self.output("out"),
        };
        assert!(shim.create(&request, None).await.unwrap() > 0);
        assert!(shim.start(&self.init()).await.unwrap() > 0);
        let written = async {
            while self.written("out") != "out\n" {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.unwrap();
        shim
    }

    /// Runs another process in the container to its end.
    async fn exec(&self, shim: &Shim) {
        let exec = Some(ExecId::new("sh").unwrap());
        let target = Target { exec, ..self.init() };
        let process = process("echo hi; exit 5");
        let stdio = self.output("hi");
        let request = ExecRequest { target, process, stdio };
        shim.exec(&request).await.unwrap();
        let again = shim.exec(&request).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists(_)), "{again}");
        let target = request.target;
        let (exit, started) = tokio::join!(shim.wait(&target), shim.start(&target));
        assert!(started.unwrap() > 0);
        assert_eq!(exit.unwrap().status, 5);
        assert_eq!(shim.delete(&target).await.unwrap().status, 5);
        assert_eq!(self.written("hi"), "hi\n");
        let gone = shim.state(&target).await.unwrap_err();
        assert!(matches!(gone, Error::NotFound(_)), "{gone}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Other tests shall not fail for this one's sake.
            let mut command = std::process::Command::new(self.runtime.binary());
            command.args(["-namespace", "e2e", "-address", "/e2e", "-id", self.id.as_str()]);
            command.arg("-bundle").arg(self.bundle()).arg("delete");
            let _cleaned = command.current_dir(self.bundle()).output();
        }
    }
}

fn process(script: &str) -> Value {
    json!({
        "cwd": "/", "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin:/sbin"],
        "user": {"uid": 0, "gid": 0},
    })
}

/// What is told of a container until it is deleted.
async fn told(events: &mut mpsc::Receiver<Published>) -> Vec<EventKind> {
    let mut told = Vec::new();
    while !matches!(told.last(), Some(EventKind::Deleted { .. })) {
        let next = tokio::time::timeout(PATIENCE, events.recv()).await;
        let Published { namespace, news, .. } = next.unwrap().unwrap();
        assert_eq!(namespace, "e2e");
        // Some tell of the end of an exec in a way of their own.
        if let News::Event(event) = news {
            told.push(event.kind);
        }
    }
    told
}

fn name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Created { .. } => "created",
        EventKind::Started { .. } => "started",
        EventKind::OutOfMemory => "oom",
        EventKind::Exited { exec: None, .. } => "exited",
        EventKind::Exited { exec: Some(_), .. } => "exec exited",
        EventKind::Deleted { .. } => "deleted",
        EventKind::ExecAdded { .. } => "exec added",
        EventKind::ExecStarted { .. } => "exec started",
        EventKind::Paused => "paused",
        EventKind::Resumed => "resumed",
    }
}

/// A container's life, with a restart of its daemon in it; the shim while it ran.
async fn life(host: &Host) -> Shim {
    let (sender, mut events) = mpsc::channel(4);
    let socket = host.dir.path().join("events");
    let _server = Events::serve(&socket, sender).await.unwrap();
    let shim = host.run().await;
    host.exec(&shim).await;
    let id = &host.id;
    assert!(!shim.pids(id).await.unwrap().is_empty());
    assert!(shim.stats(id).await.unwrap().type_url.starts_with("io.containerd.cgroups.v"));
    shim.pause(id).await.unwrap();
    assert_eq!(shim.state(&host.init()).await.unwrap().status, Status::Paused);
    shim.resume(id).await.unwrap();

    let (pid, version) = (shim.pid(), shim.version());
    drop(shim);
    let shim = Shim::reconnect(&host.bundle(), PATIENCE).await.unwrap();
    assert_eq!((shim.pid(), shim.version()), (pid, version));
    let state = shim.state(&host.init()).await.unwrap();
    assert_eq!((state.status, state.stdio), (Status::Running, host.output("out")));
    killed(host, &shim).await;
    let told = told(&mut events).await;
    let order = [
        "created",
        "started",
        "exec added",
        "exec started",
        "exec exited",
        "paused",
        "resumed",
        "exited",
        "deleted",
    ];
    assert_eq!(told.iter().map(name).collect::<Vec<_>>(), order);
    shim
}

/// The end of a container that is told as often as it is asked for.
async fn killed(host: &Host, shim: &Shim) {
    let init = host.init();
    let (exit, killed) = tokio::join!(shim.wait(&init), shim.kill(&init, KILL, true));
    killed.unwrap();
    let exit = exit.unwrap();
    assert_eq!(exit.status, Exit::KILLED);
    assert_eq!(shim.wait(&init).await, Ok(exit));
    assert_eq!(shim.delete(&init).await.unwrap().status, Exit::KILLED);
}

/// The end of the shim of a container that was deleted.
async fn end(host: &Host, shim: Shim) {
    shim.shutdown(&host.id, false).await.unwrap();
    tokio::time::timeout(PATIENCE, shim.closed()).await.unwrap();
    let gone = Shim::reconnect(&host.bundle(), Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(gone, Error::Gone(_)), "{gone}");
    assert_eq!(host.runtime.delete(&host.bundle(), &host.id).await.unwrap().status, Exit::KILLED);
    host::settled();
}

/// A shim that dies, and what its daemon makes of it.
async fn death(host: &Host) {
    let shim = host.run().await;
    let init = host.init();
    let (exit, ()) = tokio::join!(shim.wait(&init), async {
        let pid = shim.pid();
        tokio::task::spawn_blocking(move || host::kill(pid)).await.unwrap();
    });
    assert!(matches!(exit, Err(Error::Disconnected(_))), "{exit:?}");
    shim.closed().await;
    let gone = Shim::reconnect(&host.bundle(), Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(gone, Error::Gone(_)), "{gone}");
    for _ in 0..2 {
        let exit = host.runtime.delete(&host.bundle(), &host.id).await.unwrap();
        assert_eq!(exit.status, Exit::KILLED);
    }
}

#[tokio::test]
async fn machine_lives_and_ends_in_the_hands_of_our_client() {
    let host = Host::new(CUDDY, "client");
    let info = host.runtime.info().await.unwrap().unwrap();
    assert_eq!(info.name, CUDDY);
    let shim = life(&host).await;
    assert_eq!(shim.version(), TaskVersion::V3);
    assert!(shim.own().list().await.unwrap().containers.is_empty(), "it was deleted");
    end(&host, shim).await;
}

#[tokio::test]
async fn container_of_runc_lives_and_ends_in_the_hands_of_our_client() {
    let host = Host::new(RUNC, "client-runc");
    let shim = life(&host).await;
    let own = shim.own().list().await.unwrap_err();
    assert!(matches!(own, Error::Unimplemented(_)), "{own}");
    end(&host, shim).await;
}

#[tokio::test]
async fn dead_shim_of_a_machine_is_cleaned_up_after() {
    let host = Host::new(CUDDY, "client-dead");
    death(&host).await;
    host::settled();
}

#[tokio::test]
async fn dead_shim_of_runc_is_cleaned_up_after() {
    let host = Host::new(RUNC, "client-runc-dead");
    death(&host).await;
    let rootfs = host.bundle().join("rootfs");
    assert!(host::mounts(&rootfs).is_empty());
    assert!(host::processes("sleep").is_empty() && host::processes("busybox").is_empty());
}
