//! CRI-O's way with a shim of its runtime type `vm`. It starts the shim bare for each container,
//! and calls Task v2 and nothing but Task. Root filesystems are mounted already. There are no
//! events and no `delete`.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty,
    ExecProcessRequest, KillRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest,
    StateResponse, StatsRequest, StatsResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::cgroups_v2::metrics::Metrics;
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;

use crate::shim::busybox_root;

const BINARY: &str = "containerd-shim-cuddy-v2";

/// The service's name in the client of containerd 1.7, which is CRI-O's.
const TASK: &str = "containerd.task.v2.Task";

/// Where CRI-O keeps the bundles of one pod's containers, and its connection to their shim.
pub struct Pod {
    dir: tempfile::TempDir,
    id: String,
    network: Option<PathBuf>,
    cgroup: Option<String>,
    resources: Option<String>,
    runtime: Runtime,
    client: Option<Client>,
}

impl std::fmt::Debug for Pod {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pod").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a container's process writes, until its fifo ends.
#[derive(Debug)]
pub struct Output(JoinHandle<String>);

impl Output {
    fn of(fifo: &Path) -> Self {
        assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
        let fifo = fifo.to_owned();
        Self(std::thread::spawn(move || std::fs::read_to_string(fifo).unwrap()))
    }

    /// All of it, once the writer has closed it.
    ///
    /// # Panics
    /// When it is not text.
    pub fn text(self) -> String {
        self.0.join().unwrap()
    }
}

impl Pod {
    /// A pod without containers.
    ///
    /// # Panics
    /// When there is no temporary directory.
    pub fn new(id: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            id: id.to_owned(),
            network: None,
            cgroup: None,
            resources: None,
            runtime,
            client: None,
        }
    }

    /// In this network namespace with all of its containers, as CRI-O configures them.
    #[must_use]
    pub fn network(mut self, namespace: &Path) -> Self {
        self.network = Some(namespace.to_owned());
        self
    }

    /// In this cgroup, a path of the driver `cgroupfs`.
    #[must_use]
    pub fn cgroup(mut self, path: &str) -> Self {
        self.cgroup = Some(path.to_owned());
        self
    }

    /// With what the kubelet says of all containers' resources: the CRI's
    /// `LinuxContainerResources` as JSON.
    #[must_use]
    pub fn resources(mut self, json: &str) -> Self {
        self.resources = Some(json.to_owned());
        self
    }

    /// A container's bundle.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.dir.path().join(id)
    }

    /// Starts the shim for a container and creates it; the pod's first is named as the pod.
    /// `limit` is its memory in bytes.
    ///
    /// # Panics
    /// When that fails.
    pub fn create(&mut self, id: &str, arguments: &[&str], limit: Option<u64>) -> Output {
        let bundle = self.bundle(id);
        std::fs::create_dir(&bundle).unwrap();
        std::fs::create_dir(bundle.join("image")).unwrap();
        let root = busybox_root(&bundle.join("image"));
        let arguments: Vec<_> = arguments.iter().map(|word| format!("{word:?}")).collect();
        let config = format!(
            r#"{{"ociVersion":"1.0.2","process":{process},"root":{{"path":"{root}"}},
            "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
                {{"destination":"/dev","type":"tmpfs","source":"tmpfs"}}],
            "annotations":{{"io.kubernetes.cri-o.ContainerType":"{kind}",
                "io.kubernetes.cri-o.SandboxID":"{pod}"{resources}}},
            "linux":{{{cgroup}"namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}}
                {network}]{limit}}}}}"#,
            process = process(&arguments.join(",")),
            root = root.display(),
            kind = if id == self.id { "sandbox" } else { "container" },
            pod = self.id,
            network = self.network.as_ref().map_or(String::new(), |path| format!(
                r#",{{"type":"network","path":"{}"}}"#,
                path.display()
            )),
            resources = self.resources.as_ref().map_or(String::new(), |json| format!(
                r#","io.kubernetes.cri-o.PodLinuxResources":{json:?}"#
            )),
            cgroup = self
                .cgroup
                .as_ref()
                .map_or(String::new(), |path| format!(r#""cgroupsPath":"{path}/crio-{id}","#)),
            limit = limit.map_or(String::new(), |bytes| format!(
                r#","resources":{{"memory":{{"limit":{bytes}}}}}"#
            )),
        );
        std::fs::write(bundle.join("config.json"), config).unwrap();
        assert!(Command::new("mkfifo").arg(bundle.join("log")).status().unwrap().success());
        let address = start(id, &bundle);
        self.connect(&address);
        let stdout = bundle.join("stdout");
        let output = Output::of(&stdout);
        let request = CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.display().to_string(),
            stdout: stdout.display().to_string(),
            ..CreateTaskRequest::default()
        };
        let created: CreateTaskResponse = self.call("Create", &request).unwrap();
        assert!(created.pid > 0);
        output
    }

    /// Connects anew, as after a restart, by what the shim has left in a container's bundle.
    ///
    /// # Panics
    /// When nobody is there.
    pub fn restart(&mut self, id: &str) {
        let address = std::fs::read_to_string(self.bundle(id).join("address")).unwrap();
        self.connect(address.trim());
    }

    fn connect(&mut self, address: &str) {
        let path = address.strip_prefix("unix://").unwrap();
        let client = self
            .runtime
            .block_on(async { Client::new(Socket::new(UnixStream::connect(path).await.unwrap())) });
        self.client = Some(client);
    }

    fn call<T: Message>(&self, method: &str, message: &impl Message) -> Result<T, ttrpc::Error> {
        let request = ttrpc::proto::Request {
            service: TASK.to_owned(),
            method: method.to_owned(),
            payload: message.write_to_bytes().unwrap(),
            ..ttrpc::proto::Request::default()
        };
        let client = self.client.as_ref().unwrap();
        let response = self.runtime.block_on(client.request(request))?;
        Ok(T::parse_from_bytes(&response.payload).unwrap())
    }

    /// Starts a container's process, or one of its execs.
    ///
    /// # Panics
    /// When that fails.
    pub fn start(&self, id: &str, exec: &str) {
        let (id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = StartRequest { id, exec_id, ..StartRequest::default() };
        let _: StartResponse = self.call("Start", &request).unwrap();
    }

    /// Runs a command in a container; returns its exit status and output.
    ///
    /// # Panics
    /// When that fails.
    pub fn exec(&self, id: &str, exec: &str, arguments: &str) -> (u32, String) {
        let stdout = self.bundle(id).join(exec);
        let output = Output::of(&stdout);
        let request = ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            stdout: stdout.display().to_string(),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: process(arguments).into_bytes(),
                ..Any::default()
            })
            .into(),
            ..ExecProcessRequest::default()
        };
        let _: Empty = self.call("Exec", &request).unwrap();
        self.start(id, exec);
        let status = self.wait(id, exec);
        self.delete(id, exec);
        (status, output.text())
    }

    /// Waits for the end of a process; returns its exit status.
    ///
    /// # Panics
    /// When that fails.
    pub fn wait(&self, id: &str, exec: &str) -> u32 {
        let (id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = WaitRequest { id, exec_id, ..WaitRequest::default() };
        let response: WaitResponse = self.call("Wait", &request).unwrap();
        response.exit_status
    }

    /// Signals a container's process; 0 asks whether there is one.
    ///
    /// # Panics
    /// When that fails.
    pub fn kill(&self, id: &str, signal: u32) {
        let request = KillRequest { id: id.to_owned(), signal, ..KillRequest::default() };
        let _: Empty = self.call("Kill", &request).unwrap();
    }

    /// A container's state.
    ///
    /// # Panics
    /// When there is none.
    pub fn state(&self, id: &str) -> StateResponse {
        let request = StateRequest { id: id.to_owned(), ..StateRequest::default() };
        self.call("State", &request).unwrap()
    }

    /// A container's numbers.
    ///
    /// # Panics
    /// When they are not of a type that CRI-O knows.
    pub fn stats(&self, id: &str) -> Metrics {
        let request = StatsRequest { id: id.to_owned(), ..StatsRequest::default() };
        let response: StatsResponse = self.call("Stats", &request).unwrap();
        assert_eq!(response.stats.type_url, "io.containerd.cgroups.v2.Metrics");
        Metrics::parse_from_bytes(&response.stats.value).unwrap()
    }

    fn delete(&self, id: &str, exec: &str) {
        let (id, exec_id) = (id.to_owned(), exec.to_owned());
        let request = DeleteRequest { id, exec_id, ..DeleteRequest::default() };
        let _: DeleteResponse = self.call("Delete", &request).unwrap();
    }

    /// Removes a container that has ended.
    ///
    /// # Panics
    /// When that fails.
    pub fn remove(&self, id: &str) {
        self.delete(id, "");
        let request = ShutdownRequest { id: id.to_owned(), ..ShutdownRequest::default() };
        let _: Empty = self.call("Shutdown", &request).unwrap();
    }
}

/// A process of `arguments`, JSON strings with commas between them.
fn process(arguments: &str) -> String {
    format!(r#"{{"cwd":"/","args":[{arguments}],"env":["PATH=/bin"],"user":{{"uid":0,"gid":0}}}}"#)
}

/// Runs `start` with both outputs as one, to their end.
fn start(id: &str, bundle: &Path) -> String {
    let mut command = Command::new(BINARY);
    command.args(["-namespace", "default", "-address", "", "-publish-binary", "/usr/bin/crio"]);
    command.args(["-id", id, "start"]).current_dir(bundle).process_group(0);
    command.env("GOMAXPROCS", "2").env("TTRPC_ADDRESS", "").env("GRPC_ADDRESS", "");
    command.env("NAMESPACE", "default").env("MAX_SHIM_VERSION", "2").stdin(Stdio::null());
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success(), "{output}");
    output
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Other tests shall not fail for this one's sake.
            let mut command = Command::new(BINARY);
            command.args(["-namespace", "default", "-address", "", "-id", &self.id, "delete"]);
            let _cleaned = command.current_dir(self.bundle(&self.id)).output();
        }
    }
}
