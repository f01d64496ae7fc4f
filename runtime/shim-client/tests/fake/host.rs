//! A host with one bundle, runtimes that do as the test says, and a shim that answers as it says.

#![allow(dead_code, reason = "not every test program needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::{ContainerId, Namespace};
use async_trait::async_trait;
use protobuf::Message;
use shim_client::{Daemon, Runtime};
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use ttrpc::r#async::transport::Listener;
use ttrpc::r#async::{MethodHandler, Server, Service, TtrpcContext};
use ttrpc::proto::{Request, Response};
use ttrpc::{Code, get_status};

/// Deadline for what takes milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Where the fake runtimes are.
pub(crate) const RUNTIMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake");

pub(crate) const V2: &str = "containerd.task.v2.Task";
pub(crate) const V3: &str = "containerd.task.v3.Task";
pub(crate) const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";
pub(crate) const OWN: &str = "cuddy.shim.v1.Shim";

const METHODS: [&str; 30] = [
    "State",
    "Create",
    "Start",
    "Delete",
    "Pids",
    "Pause",
    "Resume",
    "Kill",
    "Exec",
    "ResizePty",
    "CloseIO",
    "Update",
    "Wait",
    "Stats",
    "Connect",
    "Shutdown",
    "CreateSandbox",
    "StartSandbox",
    "StopSandbox",
    "WaitSandbox",
    "SandboxStatus",
    "UpdateSandbox",
    "PingSandbox",
    "ShutdownSandbox",
    "SandboxMetrics",
    "List",
    "ReopenLog",
    "Attach",
    "Metrics",
    "Checkpoint",
];

/// A host with one bundle, in a directory of its own.
pub(crate) struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(host.bundle()).unwrap();
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("web")
    }

    /// What is in a file of the bundle.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.bundle().join(name)).unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// The shim's address.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What the runtime does when it is executed in the bundle.
    pub(crate) fn script(&self, script: &str) {
        std::fs::write(self.bundle().join("fake.sh"), script).unwrap();
    }

    pub(crate) fn daemon(&self) -> Daemon {
        Daemon {
            namespace: Namespace::new("test").unwrap(),
            address: "/run/cuddyd.sock".into(),
            events: "/run/events.sock".into(),
            publish_binary: "/usr/bin/cuddyd".into(),
            log_level: log::Level::Info,
            socket_dir: Some("/run/s".into()),
            version: "1.2".into(),
            environment: vec![("MORE".into(), "of it".into())],
        }
    }

    /// The fake runtime of this name.
    pub(crate) fn runtime(&self, name: &str) -> Runtime {
        let name = format!("io.containerd.{name}.v1");
        Runtime::find(&name, OsStr::new(RUNTIMES), Arc::new(self.daemon())).unwrap()
    }

    /// Writes where the shim is, as an earlier run of the daemon has done.
    pub(crate) fn note(&self, version: u32) {
        let address = self.address();
        let json = format!(r#"{{"version":{version},"address":"{address}","protocol":"ttrpc"}}"#);
        std::fs::write(self.bundle().join("bootstrap.json"), json).unwrap();
    }
}

pub(crate) fn web() -> ContainerId {
    ContainerId::new("web").unwrap()
}

/// Waits until the process whose number is in `file` is gone.
pub(crate) fn gone(file: &Path) {
    let pid = std::fs::read_to_string(file).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    let end = Instant::now() + SOON;
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < end, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How a fake shim answers.
pub(crate) enum Reply {
    Done(Vec<u8>),
    Refused(Code, String),
    Never,
}

pub(crate) fn done(message: &impl Message) -> Reply {
    Reply::Done(message.write_to_bytes().unwrap())
}

/// Decides how to answer a request.
type Answer = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A shim that answers as its test says, in a thread of its own; its drop ends it.
pub(crate) struct Shim {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

struct Method {
    requests: Arc<Mutex<Vec<Request>>>,
    answer: Answer,
}

#[async_trait]
impl MethodHandler for Method {
    async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        let reply = (self.answer)(&request);
        self.requests.lock().unwrap().push(request);
        let mut response = Response::new();
        match reply {
            Reply::Done(payload) => response.payload = payload,
            Reply::Refused(code, text) => response.set_status(get_status(code, text)),
            Reply::Never => std::future::pending().await,
        }
        Ok(response)
    }
}

/// Serves until the other end of `ended` is dropped.
async fn run(
    listener: std::os::unix::net::UnixListener,
    services: HashMap<String, Service>,
    ended: oneshot::Receiver<()>,
) {
    let listener = UnixListener::from_std(listener).unwrap();
    let callers = futures::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    let server = Server::new().register_service(services);
    let mut server = server.add_listener(Listener::new(callers));
    server.start().await.unwrap();
    let _told = ended.await;
}

impl Shim {
    /// Serves the named services on the host's socket.
    pub(crate) fn serve(
        host: &Host,
        services: &[&str],
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (requests, answer) = (Arc::default(), Arc::new(answer) as Answer);
        let method = |name: &str| {
            let (requests, answer) = (Arc::clone(&requests), answer.clone());
            let method: Box<dyn MethodHandler + Send + Sync> =
                Box::new(Method { requests, answer });
            (name.to_owned(), method)
        };
        let service = |name: &&str| {
            let methods = METHODS.iter().map(|name| method(name)).collect();
            ((*name).to_owned(), Service { methods, streams: HashMap::new() })
        };
        let services = services.iter().map(service).collect();
        let listener = std::os::unix::net::UnixListener::bind(host.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(listener, services, ended));
        });
        Self { end: Some(end), thread: Some(thread), requests }
    }

    /// The requests since the last time.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// Waits until there were so many requests since the last time.
    pub(crate) async fn asked(&self, count: usize) {
        let asked = async {
            while self.requests.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, asked).await.unwrap();
    }

    /// Ends it at once, as if it were killed.
    pub(crate) fn kill(mut self) {
        drop(self.end.take());
        self.thread.take().unwrap().join().unwrap();
    }
}
