//! An agent on Unix sockets in a mount namespace of its own, a busybox root, and clients.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_api::container::CreateContainerRequest;
use agent_api::container_ttrpc::ContainerClient;
use agent_api::process::{ExecRequest, SignalRequest, WaitResponse};
use agent_api::process_ttrpc::ProcessClient;
use agent_api::sandbox::ConfigureRequest;
use agent_api::sandbox_ttrpc::SandboxClient;
use agent_api::types::{ContainerId, ProcessId, Streams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use ttrpc::context::with_duration;

/// Longest time that any step may take, also under TCG.
const PATIENCE: Duration = Duration::from_secs(60);

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number that no other test uses.
fn unique() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Context of a call.
pub(crate) fn context() -> ttrpc::context::Context {
    with_duration(PATIENCE)
}

/// What changes nothing of the host that these tests run on.
pub(crate) fn configuration() -> ConfigureRequest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    ConfigureRequest {
        clock_unix_ns: i64::try_from(now.as_nanos()).unwrap(),
        entropy: vec![7; 32],
        ..ConfigureRequest::default()
    }
}

/// A running agent. Ends with this value.
pub(crate) struct Agent {
    child: Child,
    directory: tempfile::TempDir,
    /// Container service.
    pub(crate) containers: ContainerClient,
    /// Process service.
    pub(crate) processes: ProcessClient,
    /// Sandbox service.
    pub(crate) sandbox: SandboxClient,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent under test: the one that cargo built, or the one that `CUDDY_AGENT` names where these
/// tests run away from their build directory.
fn program() -> PathBuf {
    std::env::var_os("CUDDY_AGENT").map_or(env!("CARGO_BIN_EXE_cuddy-agent").into(), PathBuf::from)
}

impl Agent {
    /// Starts an agent and configures it.
    pub(crate) async fn start() -> Self {
        let agent = Self::unconfigured().await;
        agent.sandbox.configure(context(), &configuration()).await.unwrap();
        agent
    }

    /// Starts an agent in its own mount namespace, with cgroup v2 at its usual place.
    pub(crate) async fn unconfigured() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = "mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null; exec \"$@\"";
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(program())
            .arg("--unix")
            .arg(directory.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("unix://{}", directory.path().join("rpc.sock").display());
        let deadline = std::time::Instant::now() + PATIENCE;
        let client = loop {
            match ttrpc::r#async::Client::connect(&address).await {
                Ok(client) => break client,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let containers = ContainerClient::new(client.clone());
        let processes = ProcessClient::new(client.clone());
        let sandbox = SandboxClient::new(client);
        Self { child, directory, containers, processes, sandbox }
    }

    /// A file of the cgroup above all containers.
    pub(crate) fn cgroup(&self, file: &str) -> PathBuf {
        self.proc("root/sys/fs/cgroup/pod").join(file)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file of its process, below /proc.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.pid()).into()
    }

    /// Connects a stream; its id and the host's side.
    pub(crate) async fn stream(&self) -> (u64, UnixStream) {
        let id = unique();
        let mut stream = self.connection().await;
        stream.write_all(&id.to_le_bytes()).await.unwrap();
        (id, stream)
    }

    /// Connects to where streams go, and says nothing.
    pub(crate) async fn connection(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("streams.sock")).await.unwrap()
    }

    /// A root directory with busybox.
    pub(crate) fn rootfs(&self) -> PathBuf {
        let root = self.directory.path().join(format!("root{}", unique()));
        for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "home/web", "run"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
        for applet in [
            "sh", "cat", "echo", "sleep", "id", "ls", "mount", "hostname", "head", "dd", "stat",
            "touch", "mkdir", "tty", "stty", "grep", "test", "true", "readlink", "env", "awk",
            "tr", "wc", "ps", "kill", "mknod", "chmod", "nproc", "tail", "seq", "cut",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/home/web:/bin/sh\n";
        std::fs::write(root.join("etc/passwd"), passwd).unwrap();
        root
    }

    /// Creates a container; its id, the output streams are connected.
    pub(crate) async fn create(&self, spec: &Value) -> ttrpc::Result<Container<'_>> {
        let id = format!("t{}-{}", std::process::id(), unique());
        let terminal = spec["process"]["terminal"] == json!(true);
        let (stdin_id, stdin) = self.stream().await;
        let (stdout_id, stdout) = self.stream().await;
        let mut streams = Streams { stdin: stdin_id, stdout: stdout_id, ..Streams::default() };
        let mut stderr = None;
        if !terminal {
            let (id, stream) = self.stream().await;
            streams.stderr = id;
            stderr = Some(stream);
        }
        let request = CreateContainerRequest {
            container_id: id.clone(),
            spec_json: serde_json::to_vec(spec).unwrap(),
            streams: Some(streams).into(),
            ..CreateContainerRequest::default()
        };
        self.containers.create(context(), &request).await?;
        Ok(Container { agent: self, id, stdin: Some(stdin), stdout, stderr })
    }

    /// Runs a container to its end: exit status, standard output and error.
    pub(crate) async fn run(&self, spec: &Value) -> (u32, String, String) {
        let mut container = self.create(spec).await.unwrap();
        container.start("").await.unwrap();
        drop(container.stdin.take());
        let (out, error) = container.output().await;
        let exit = container.wait("").await;
        container.delete().await.unwrap();
        (exit.exit_status, out, error)
    }
}

/// A container with its streams.
pub(crate) struct Container<'agent> {
    /// Where it is.
    pub(crate) agent: &'agent Agent,
    /// Its id.
    pub(crate) id: String,
    /// The host's side of standard input.
    pub(crate) stdin: Option<UnixStream>,
    /// The host's side of standard output.
    pub(crate) stdout: UnixStream,
    stderr: Option<UnixStream>,
}

impl Container<'_> {
    fn process(&self, exec_id: &str) -> ProcessId {
        ProcessId {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..ProcessId::default()
        }
    }

    /// The container's id as a message.
    pub(crate) fn message(&self) -> ContainerId {
        ContainerId { container_id: self.id.clone(), ..ContainerId::default() }
    }

    pub(crate) async fn start(&self, exec_id: &str) -> ttrpc::Result<u32> {
        let started = self.agent.processes.start(context(), &self.process(exec_id)).await?;
        Ok(started.pid)
    }

    pub(crate) async fn wait(&self, exec_id: &str) -> WaitResponse {
        self.agent.processes.wait(context(), &self.process(exec_id)).await.unwrap()
    }

    pub(crate) async fn signal(&self, exec_id: &str, signal: u32, all: bool) -> ttrpc::Result<()> {
        let request = SignalRequest {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            signal,
            all,
            ..SignalRequest::default()
        };
        self.agent.processes.signal(context(), &request).await.map(drop)
    }

    pub(crate) async fn delete(&self) -> ttrpc::Result<()> {
        self.agent.containers.delete(context(), &self.message()).await.map(drop)
    }

    /// Everything on standard output and error.
    pub(crate) async fn output(&mut self) -> (String, String) {
        let (mut out, mut error) = (Vec::new(), Vec::new());
        let stderr = async {
            match &mut self.stderr {
                Some(stream) => stream.read_to_end(&mut error).await.map(drop),
                None => Ok(()),
            }
        };
        let both = async { tokio::try_join!(self.stdout.read_to_end(&mut out), stderr) };
        tokio::time::timeout(PATIENCE, both).await.expect("end of output").unwrap();
        (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&error).into_owned())
    }

    /// Registers and starts an exec; its standard output.
    pub(crate) async fn exec(&self, exec_id: &str, process: &Value) -> ttrpc::Result<UnixStream> {
        let stream = self.add_exec(exec_id, process).await?;
        self.start(exec_id).await?;
        Ok(stream)
    }

    /// Registers an exec; its standard output.
    pub(crate) async fn add_exec(
        &self,
        exec_id: &str,
        process: &Value,
    ) -> ttrpc::Result<UnixStream> {
        let (stdout, stream) = self.agent.stream().await;
        let request = ExecRequest {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            process_json: serde_json::to_vec(process).unwrap(),
            streams: Some(Streams { stdout, ..Streams::default() }).into(),
            ..ExecRequest::default()
        };
        self.agent.processes.exec(context(), &request).await?;
        Ok(stream)
    }

    /// Runs an exec to its end: exit status and standard output.
    pub(crate) async fn run_exec(&self, process: &Value) -> (u32, String) {
        let exec_id = format!("e{}", unique());
        let mut stream = self.exec(&exec_id, process).await.unwrap();
        let mut out = String::new();
        stream.read_to_string(&mut out).await.unwrap();
        let exit = self.wait(&exec_id).await;
        self.agent.processes.delete(context(), &self.process(&exec_id)).await.unwrap();
        (exit.exit_status, out)
    }
}

/// `process` of a shell command, with the capabilities that containerd gives by default.
pub(crate) fn shell(command: &str) -> Value {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];
    json!({
        "args": ["/bin/sh", "-c", command],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": true,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities
        }
    })
}

/// What containerd generates for `ctr run` on a cgroup v2 host.
pub(crate) fn spec(root: &Path, command: &str) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": shell(command),
        "root": {"path": root},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", "nosuid", "noexec", "nodev"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "network"}, {"type": "cgroup"}
            ],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                "/proc/sysrq-trigger"]
        }
    })
}
