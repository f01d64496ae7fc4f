//! The shim as CRI-O starts it: bare, for each container of a pod, with an empty event address and
//! no input. CRI-O finds it again by the file `address`, and never asks it for `delete`.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ShutdownRequest,
    StateRequest, StateResponse,
};
use protobuf::Message;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::proto::Request;
use ttrpc::{Code, Error};

/// The service's name in the client of containerd 1.7, which is CRI-O's.
const TASK: &str = "containerd.task.v2.Task";

/// Deadline for what takes milliseconds.
const SOON: Duration = Duration::from_secs(30);

/// A pod of two containers, each with its bundle.
struct Pod {
    dir: tempfile::TempDir,
    id: String,
}

impl Pod {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // CRI-O says nothing about the directory of sockets: the name must be this test's own.
        let id = format!("cri-o-{}", std::process::id());
        std::fs::write(dir.path().join("config.toml"), "vmm = '/nonexistent/cuddy-vmm'\n").unwrap();
        Self { dir, id }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A bundle as CRI-O leaves it: the root is mounted somewhere else, `log` is a fifo.
    fn bundle(&self, id: &str, kind: &str) -> PathBuf {
        let bundle = self.path(id);
        std::fs::create_dir(&bundle).unwrap();
        let root = self.path(&format!("{id}-root"));
        std::fs::create_dir(&root).unwrap();
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["/pause"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": root},
            "annotations": {
                "io.kubernetes.cri-o.ContainerType": kind,
                "io.kubernetes.cri-o.SandboxID": self.id
            }
        });
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkfifoat(rustix::fs::CWD, bundle.join("log"), mode).unwrap();
        bundle
    }

    /// Runs `start` with both outputs as one; returns when nobody has them open any more.
    fn start(&self, id: &str, bundle: &Path) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-cuddy-v2"));
        command.args(["-namespace", "default", "-address", ""]);
        command.args(["-publish-binary", "/usr/bin/crio", "-id", id, "start"]);
        command.current_dir(bundle).process_group(0).stdin(Stdio::null());
        command.env("GOMAXPROCS", "2").env("TTRPC_ADDRESS", "").env("GRPC_ADDRESS", "");
        command.env("NAMESPACE", "default").env("MAX_SHIM_VERSION", "2");
        command.env("CUDDY_RUN", self.path("run")).env("CUDDY_CONFIG", self.path("config.toml"));
        let (mut reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        assert!(child.wait().unwrap().success(), "{output}");
        output
    }
}

struct Task(Client);

impl Task {
    async fn connect(address: &str) -> Self {
        let path = address.strip_prefix("unix://").unwrap();
        let stream = tokio::net::UnixStream::connect(path).await.unwrap();
        Self(Client::new(Socket::new(stream)))
    }

    async fn call<T: Message>(&self, method: &str, message: &impl Message) -> Result<T, Error> {
        let request = Request {
            service: TASK.to_owned(),
            method: method.to_owned(),
            payload: message.write_to_bytes().unwrap(),
            ..Request::default()
        };
        let response = self.0.request(request).await?;
        Ok(T::parse_from_bytes(&response.payload).unwrap())
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String) {
    match result.unwrap_err() {
        Error::RpcStatus(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_container_of_a_pod_finds_its_one_shim_and_nothing_is_left_without_delete() {
    let pod = Pod::new();
    let sandbox = pod.bundle(&pod.id, "sandbox");
    let address = pod.start(&pod.id, &sandbox);
    let web = pod.bundle("web", "container");
    assert_eq!(pod.start("web", &web), address);
    assert!(!address.contains(char::is_whitespace), "{address:?}");
    for bundle in [&sandbox, &web] {
        assert_eq!(std::fs::read_to_string(bundle.join("address")).unwrap(), address);
    }
    let task = Task::connect(&address).await;
    let state = StateRequest { id: pod.id.clone(), ..StateRequest::default() };
    assert_eq!(code(task.call::<StateResponse>("State", &state).await).0, Code::NOT_FOUND);
    // Without a kernel to boot it gets no further; what CRI-O does then must clean up.
    let create = CreateTaskRequest {
        id: pod.id.clone(),
        bundle: sandbox.display().to_string(),
        ..CreateTaskRequest::default()
    };
    let (_, text) = code(task.call::<CreateTaskResponse>("Create", &create).await);
    assert!(text.contains("guest kernel") && text.contains("vmlinux"), "{text}");
    let delete = DeleteRequest { id: pod.id.clone(), ..DeleteRequest::default() };
    assert_eq!(code(task.call::<DeleteResponse>("Delete", &delete).await).0, Code::NOT_FOUND);
    let shutdown = ShutdownRequest { id: pod.id.clone(), ..ShutdownRequest::default() };
    task.call::<Empty>("Shutdown", &shutdown).await.unwrap();
    assert!(!Path::new(address.strip_prefix("unix://").unwrap()).exists());
    let state = pod.path("run/default").join(&pod.id);
    let end = Instant::now() + SOON;
    while state.exists() && Instant::now() < end {
        std::thread::yield_now();
    }
    assert!(!state.exists(), "{} is still there", state.display());
}
