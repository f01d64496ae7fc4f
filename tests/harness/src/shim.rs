//! A shim driven directly, as containerd does it but with mounts of the test's choice.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub use containerd_shim_protos::api::Status;
use containerd_shim_protos::api::{
    CreateTaskRequest, DeleteRequest, KillRequest, ShutdownRequest, StartRequest, StateRequest,
    WaitRequest,
};
use containerd_shim_protos::shim_async::TaskClient;
use containerd_shim_protos::types::mount::Mount;
use tokio::net::UnixStream;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::Context;

const BINARY: &str = "containerd-shim-cuddy-v2";

/// One pod with one container.
#[derive(Debug)]
pub struct Pod {
    dir: tempfile::TempDir,
    id: String,
    log: File,
}

/// How a container went.
#[derive(Debug)]
pub struct Ran {
    /// Exit status of its process.
    pub status: u32,
    /// What it wrote to its output.
    pub output: String,
}

impl Pod {
    /// A bundle whose container runs `script` in a shell.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn new(id: &str, script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = script.replace('\\', "\\\\").replace('"', "\\\"");
        let config = format!(
            r#"{{"ociVersion":"1.1.0","hostname":"pod",
            "process":{{"cwd":"/","args":["/bin/sh","-c","{script}"],"env":["PATH=/bin:/sbin"],
                "user":{{"uid":0,"gid":0}}}},
            "root":{{"path":"rootfs"}},
            "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
                {{"destination":"/dev","type":"tmpfs","source":"tmpfs"}}],
            "linux":{{"namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}}]}}}}"#
        );
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        std::fs::create_dir(dir.path().join("rootfs")).unwrap();
        // As containerd does it; opened for writing as well, so that it has a reader at once.
        let log = dir.path().join("log");
        assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
        let mut options = OpenOptions::new();
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        options.read(true).write(true).custom_flags(flags);
        let log = options.open(log).unwrap();
        Self { dir, id: id.to_owned(), log }
    }

    /// Changes the configuration of the bundle's container.
    ///
    /// # Panics
    /// When it can't be read or written.
    pub fn configure(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.bundle().join("config.json");
        let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(path, config.to_string()).unwrap();
    }

    /// Adds a bind mount to the container.
    ///
    /// # Panics
    /// As [`Self::configure`].
    pub fn bind(&self, source: &Path, destination: &str, options: &[&str]) {
        let entry = serde_json::json!({
            "destination": destination, "type": "bind", "source": source, "options": options,
        });
        self.configure(|config| config["mounts"].as_array_mut().unwrap().push(entry));
    }

    /// What the shim has logged since the last call.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        // Ends with an error, because the fifo is empty and not at its end.
        let _empty = (&self.log).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bundle.
    pub fn bundle(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["-namespace", "e2e", "-address", "/e2e", "-id", &self.id, action]);
        command.current_dir(self.bundle()).env_remove("TTRPC_ADDRESS").stdin(Stdio::null());
        command
    }

    async fn connect(&self) -> TaskClient {
        let output = self.command("start").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let address = String::from_utf8(output.stdout).unwrap();
        let stream = UnixStream::connect(address.strip_prefix("unix://").unwrap()).await.unwrap();
        TaskClient::new(Client::new(Socket::new(stream)))
    }

    /// Creates the container on `rootfs`, runs it to its end, and removes everything.
    ///
    /// # Errors
    /// What create or start answered.
    ///
    /// # Panics
    /// When anything after that fails.
    pub fn run(&self, rootfs: Vec<Mount>) -> Result<Ran, ttrpc::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = self.connect().await;
            let output = self.bundle().join("output");
            let ran = self.to_the_end(&client, rootfs, &output).await;
            let id = self.id.clone();
            let request = ShutdownRequest { id, ..ShutdownRequest::default() };
            client.shutdown(Context::default(), &request).await.unwrap();
            let status = ran?;
            let output = std::fs::read_to_string(output).unwrap_or_default();
            Ok(Ran { status, output })
        })
    }

    /// Creates the container on `rootfs`, waits until it has written `word`, and ends the pod
    /// while it runs.
    ///
    /// # Panics
    /// When anything fails.
    pub fn cut_short(&self, rootfs: Vec<Mount>, word: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = self.connect().await;
            let output = self.bundle().join("output");
            self.create(&client, rootfs, &output).await.unwrap();
            let request = StartRequest { id: self.id.clone(), ..StartRequest::default() };
            client.start(Context::default(), &request).await.unwrap();
            crate::eventually("the container has written", || {
                std::fs::read_to_string(&output).is_ok_and(|text| text.contains(word))
            });
            let id = self.id.clone();
            let request = ShutdownRequest { id, now: true, ..ShutdownRequest::default() };
            client.shutdown(Context::default(), &request).await.unwrap();
        });
    }

    /// Starts the container on `rootfs`, with its output in the file `output`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(&self, rootfs: Vec<Mount>, output: &Path) -> Task {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let client = self.connect().await;
            self.create(&client, rootfs, output).await.unwrap();
            let request = StartRequest { id: self.id.clone(), ..StartRequest::default() };
            client.start(Context::default(), &request).await.unwrap();
            client
        });
        Task { runtime, client, id: self.id.clone() }
    }

    /// Asks for the container on `rootfs` and does not wait for it, as a caller whose time is over.
    ///
    /// # Panics
    /// When there is an answer at once.
    pub fn abandon(&self, rootfs: Vec<Mount>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = self.connect().await;
            let request = CreateTaskRequest {
                id: self.id.clone(),
                bundle: self.bundle().display().to_string(),
                rootfs,
                ..CreateTaskRequest::default()
            };
            let context = ttrpc::context::with_duration(std::time::Duration::from_millis(300));
            let answer = client.create(context, &request).await;
            assert!(answer.is_err(), "{answer:?}");
        });
    }

    async fn create(
        &self,
        client: &TaskClient,
        rootfs: Vec<Mount>,
        output: &Path,
    ) -> Result<(), ttrpc::Error> {
        let request = CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.bundle().display().to_string(),
            rootfs,
            stdout: format!("file://{}", output.display()),
            ..CreateTaskRequest::default()
        };
        client.create(Context::default(), &request).await.map(drop)
    }

    async fn to_the_end(
        &self,
        client: &TaskClient,
        rootfs: Vec<Mount>,
        output: &Path,
    ) -> Result<u32, ttrpc::Error> {
        let id = || self.id.clone();
        self.create(client, rootfs, output).await?;
        let request = StartRequest { id: id(), ..StartRequest::default() };
        let started = client.start(Context::default(), &request).await;
        if started.is_err() {
            let request = KillRequest { id: id(), signal: 9, all: true, ..KillRequest::default() };
            // It may have ended by itself.
            let _gone = client.kill(Context::default(), &request).await;
        }
        let request = WaitRequest { id: id(), ..WaitRequest::default() };
        let exit = client.wait(Context::default(), &request).await.unwrap();
        let request = DeleteRequest { id: id(), ..DeleteRequest::default() };
        client.delete(Context::default(), &request).await.unwrap();
        started?;
        Ok(exit.exit_status)
    }
}

/// A container that was started, whose shim has to answer each call in time.
pub struct Task {
    runtime: tokio::runtime::Runtime,
    client: TaskClient,
    id: String,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Task {
    fn ask<T>(
        &self,
        limit: Duration,
        call: impl AsyncFnOnce(&TaskClient, Context) -> Result<T, ttrpc::Error>,
    ) -> Result<T, ttrpc::Error> {
        self.runtime.block_on(call(&self.client, ttrpc::context::with_duration(limit)))
    }

    /// The container's status and the process that stands for it.
    ///
    /// # Errors
    /// What the shim answered; that it did not in time.
    pub fn state(&self, limit: Duration) -> Result<(Status, u32), ttrpc::Error> {
        let request = StateRequest { id: self.id.clone(), ..StateRequest::default() };
        let state =
            self.ask(limit, async |client, context| client.state(context, &request).await)?;
        Ok((state.status.enum_value_or_default(), state.pid))
    }

    /// Kills all its processes.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn kill(&self, limit: Duration) -> Result<(), ttrpc::Error> {
        let id = self.id.clone();
        let request = KillRequest { id, signal: 9, all: true, ..KillRequest::default() };
        self.ask(limit, async |client, context| client.kill(context, &request).await).map(drop)
    }

    /// Waits for its end; how its first process ended.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn wait(&self, limit: Duration) -> Result<u32, ttrpc::Error> {
        let request = WaitRequest { id: self.id.clone(), ..WaitRequest::default() };
        let exit = self.ask(limit, async |client, context| client.wait(context, &request).await)?;
        Ok(exit.exit_status)
    }

    /// Deletes it.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn delete(&self, limit: Duration) -> Result<(), ttrpc::Error> {
        let request = DeleteRequest { id: self.id.clone(), ..DeleteRequest::default() };
        self.ask(limit, async |client, context| client.delete(context, &request).await).map(drop)
    }

    /// Ends the pod.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn shutdown(&self, limit: Duration) -> Result<(), ttrpc::Error> {
        let request = ShutdownRequest { id: self.id.clone(), ..ShutdownRequest::default() };
        self.ask(limit, async |client, context| client.shutdown(context, &request).await).map(drop)
    }

    /// Ends the pod while it runs.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn end(&self, limit: Duration) -> Result<(), ttrpc::Error> {
        let request = ShutdownRequest { id: self.id.clone(), now: true, ..Default::default() };
        self.ask(limit, async |client, context| client.shutdown(context, &request).await).map(drop)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _cleaned = self.command("delete").output();
    }
}

/// A mount of containerd's.
pub fn mount(fstype: &str, source: &Path, options: &[&str]) -> Mount {
    Mount {
        type_: fstype.to_owned(),
        source: source.display().to_string(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

/// A root directory with the host's busybox in it.
///
/// # Panics
/// When there is no busybox.
pub fn busybox_root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    for name in ["bin", "proc", "dev", "sys", "tmp", "data"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let busybox = busybox.iter().find(|path| path.exists()).unwrap();
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "echo", "sync", "mount", "touch", "ls", "dd", "wc", "sleep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    root
}
