//! A host with one bundle and the real shim binary, for component tests.

#![allow(dead_code, reason = "not every test program needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::shim_async::TaskClient;
use protobuf::Message;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::{Code, Error};

/// Deadline for what takes milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A host with one bundle, in a directory of its own.
pub(crate) struct Host {
    /// Socket of its containerd, relative to the directory.
    pub(crate) containerd: &'static str,
    dir: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        let host = Self { containerd: "containerd", dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(host.bundle()).unwrap();
        std::fs::write(host.path("config.toml"), "vmm = '/nonexistent/cuddy-vmm'\n").unwrap();
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub(crate) fn shim(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.begin("web", arguments, input).wait_with_output().unwrap()
    }

    /// Calls the shim for the sandbox `id`.
    pub(crate) fn begin(&self, id: &str, arguments: &[&str], input: &[u8]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-cuddy-v2"));
        command.args(["-namespace", "test", "-id", id, "-address"]).arg(self.path(self.containerd));
        command.args(arguments).current_dir(self.bundle());
        command.env("CUDDY_RUN", self.path("run")).env("CUDDY_CONFIG", self.path("config.toml"));
        command.env_remove("TTRPC_ADDRESS");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
        child
    }

    /// Begins to start the daemon of `id` as containerd 2.3 does, which also says where its socket
    /// shall be.
    pub(crate) fn begin_start(&self, id: &str) -> Child {
        let params = BootstrapParams {
            instance_id: id.into(),
            namespace: "test".into(),
            socket_dir: Some(self.path("s").display().to_string()),
            ..BootstrapParams::default()
        };
        self.begin(id, &["start"], &params.write_to_bytes().unwrap())
    }

    /// Starts the daemon.
    pub(crate) fn start(&self) -> String {
        let output = self.begin_start("web").wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let result = BootstrapResult::parse_from_bytes(&output.stdout).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        result.address
    }

    pub(crate) fn socket(address: &str) -> &Path {
        Path::new(address.strip_prefix("unix://").unwrap())
    }

    pub(crate) async fn connect(address: &str) -> TaskClient {
        TaskClient::new(Self::client(address).await)
    }

    pub(crate) async fn client(address: &str) -> Client {
        let stream = tokio::net::UnixStream::connect(Self::socket(address)).await.unwrap();
        Client::new(Socket::new(stream))
    }

    /// Waits until the process is gone, with a deadline.
    pub(crate) fn gone(pid: u32) {
        let end = Instant::now() + SOON;
        let proc = PathBuf::from(format!("/proc/{pid}"));
        while proc.exists() && Instant::now() < end {
            std::thread::yield_now();
        }
        assert!(!proc.exists(), "process {pid} is still there");
    }

    pub(crate) fn nothing_left(&self) {
        assert!(!self.path("run/test").exists());
        let sockets = std::fs::read_dir(self.path("s")).unwrap().count();
        assert_eq!(sockets, 0);
    }
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String) {
    match result.unwrap_err() {
        Error::RpcStatus(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    }
}
