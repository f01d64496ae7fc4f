//! A Docker daemon of this program's own.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::comes_true;
use harness::ctr::ctr;
use tempfile::TempDir;

use crate::peers::PEERS;
use crate::process::Process;

/// Where the lab's registry has the small image.
const IMAGE: &str = "127.0.0.1:5000/busybox:latest";

/// A daemon that knows the small image; it ends with the value.
#[derive(Debug)]
pub(super) struct Docker {
    /// Ends before its directory goes.
    _daemon: Process,
    dir: TempDir,
}

impl Docker {
    /// Starts it over the host's containerd, if it was brought along, and pulls the image.
    ///
    /// # Errors
    /// It does not serve, or the image does not come.
    pub(super) fn start() -> Result<Option<Self>> {
        let program = Path::new(PEERS).join("dockerd");
        if !program.exists() {
            return Ok(None);
        }
        // Starts containerd where it has to be.
        ctr(&["version"]).ok();
        let dir = tempfile::tempdir().context("making a directory for Docker")?;
        let log = File::create(dir.path().join("log")).context("making Docker's log")?;
        let mut command = Command::new(program);
        command.args(["--containerd", "/run/containerd/containerd.sock", "--userland-proxy=false"]);
        for (option, name) in
            [("--data-root", "root"), ("--exec-root", "state"), ("--pidfile", "pid")]
        {
            command.arg(option).arg(dir.path().join(name));
        }
        command.arg("--host").arg(format!("unix://{}", dir.path().join("sock").display()));
        let errors = log.try_clone().context("making Docker's log")?;
        let daemon = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let docker = Self { _daemon: Process(daemon.context("executing dockerd")?), dir };
        let serves = comes_true(|| {
            docker.command(&["version"]).output().is_ok_and(|output| output.status.success())
        });
        ensure!(serves, "dockerd does not serve: {}", docker.log());
        let pulled = docker.command(&["pull", "--quiet", IMAGE]).output();
        let pulled = pulled.context("executing docker")?;
        ensure!(pulled.status.success(), "docker pull: {pulled:?}: {}", docker.log());
        Ok(Some(docker))
    }

    /// `docker run` of the image.
    pub(super) fn run(&self, options: &[&str], arguments: [&str; 2]) -> Command {
        let mut command = self.command(&["run", "--rm"]);
        command.args(options).arg(IMAGE).args(arguments);
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(PEERS).join("docker"));
        command.arg("--host").arg(format!("unix://{}", self.dir.path().join("sock").display()));
        command.args(arguments);
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}
