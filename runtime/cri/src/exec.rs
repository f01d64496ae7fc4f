//! Additional processes in containers, whose streams the daemon has in its hands, by fifos.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use api::events::{Exit, SIGKILL};
use api::request::{ExecRequest, StdioPaths, Target};
use serde_json::{Value, json};
use shim_client::{Error, Shim};
use tokio::net::unix::pipe;

use crate::fault::Fault;
use crate::fifo;
use crate::pod::site::{self, Site};

/// Number of the next exec of this run of the daemon.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Which streams a process has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    /// It reads.
    pub(crate) stdin: bool,
    /// It writes.
    pub(crate) stdout: bool,
    /// It writes errors apart; not with a terminal.
    pub(crate) stderr: bool,
    /// It has a terminal.
    pub(crate) terminal: bool,
    /// The terminal's first size, in columns and rows.
    pub(crate) size: Option<(u32, u32)>,
}

/// A process that was created and not started.
#[derive(Debug)]
pub(crate) struct Exec {
    shim: Shim,
    target: Target,
    directory: PathBuf,
    /// What it writes.
    pub(crate) stdout: Option<pipe::Receiver>,
    /// What it writes as errors.
    pub(crate) stderr: Option<pipe::Receiver>,
    /// Path of the fifo that it reads; it exists once the process was created.
    pub(crate) stdin: Option<PathBuf>,
}

impl Exec {
    /// Creates a process that runs `args` in a container as the container's own process runs.
    ///
    /// # Errors
    /// What the shim answered, or [`Fault::Internal`] with what is wrong with the container's files.
    pub(crate) async fn create(
        site: &Site,
        container: &str,
        args: &[String],
        streams: Streams,
    ) -> Result<Self, Fault> {
        let shim = site.shim()?;
        let process = process(site, container, args, streams).await?;
        let name = name().map_err(|error| Fault::Internal(format!("naming an exec: {error}")))?;
        let target = site::exec(container, &name)?;
        let directory = site.node.places.bundle(container).join(format!("exec-{name}"));
        let made = Self::fifos(shim, target, directory.clone(), streams).await;
        let exec = made.map_err(|error| {
            Fault::Internal(format!("making fifos in {}: {error}", directory.display()))
        })?;
        let stdio = exec.stdio(streams);
        let request = ExecRequest { target: exec.target.clone(), process, stdio };
        if let Err(error) = exec.shim.exec(&request).await {
            exec.remove_files().await;
            return Err(error.into());
        }
        Ok(exec)
    }

    async fn fifos(
        shim: Shim,
        target: Target,
        directory: PathBuf,
        streams: Streams,
    ) -> io::Result<Self> {
        tokio::fs::create_dir(&directory).await?;
        let receiver = |name: &str, wanted: bool| match wanted {
            true => fifo::receive(&directory.join(name)).map(Some),
            false => Ok(None),
        };
        let stdout = receiver("stdout", streams.stdout || streams.terminal)?;
        let stderr = receiver("stderr", streams.stderr && !streams.terminal)?;
        let stdin = streams.stdin.then(|| directory.join("stdin"));
        stdin.as_deref().map_or(Ok(()), fifo::make)?;
        Ok(Self { shim, target, directory, stdout, stderr, stdin })
    }

    fn stdio(&self, streams: Streams) -> StdioPaths {
        let path = |name: &str, there: bool| match there {
            true => self.directory.join(name).display().to_string(),
            false => String::new(),
        };
        StdioPaths {
            stdin: path("stdin", self.stdin.is_some()),
            stdout: path("stdout", self.stdout.is_some()),
            stderr: path("stderr", self.stderr.is_some()),
            terminal: streams.terminal,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// What the shim answered.
    pub(crate) async fn start(&self) -> Result<(), Fault> {
        self.shim.start(&self.target).await.map(drop).map_err(Fault::from)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What the shim answered.
    pub(crate) async fn wait(&self) -> Result<Exit, Fault> {
        self.shim.wait(&self.target).await.map_err(Fault::from)
    }

    /// Sets the size of its terminal: columns and rows.
    ///
    /// # Errors
    /// What the shim answered.
    pub(crate) async fn resize(&self, size: (u32, u32)) -> Result<(), Fault> {
        self.shim.resize(&self.target, size).await.map_err(Fault::from)
    }

    /// Kills it. One that has ended needs none.
    pub(crate) async fn kill(&self) {
        match self.shim.kill(&self.target, SIGKILL, false).await {
            Ok(()) | Err(Error::NotFound(_) | Error::Gone(_) | Error::Disconnected(_)) => {}
            Err(error) => log::warn!("{error}"),
        }
    }

    /// Ends what it reads, once it has read all.
    pub(crate) async fn close_stdin(&self) {
        match self.shim.close_io(&self.target).await {
            Ok(()) | Err(Error::NotFound(_) | Error::Gone(_) | Error::Disconnected(_)) => {}
            Err(error) => log::warn!("{error}"),
        }
    }

    /// Lets nothing be left of it, which has ended or is killed by this.
    pub(crate) async fn remove(self) {
        if let Err(Error::FailedPrecondition(_)) = self.shim.delete(&self.target).await {
            self.kill().await;
            if self.shim.wait(&self.target).await.is_ok()
                && let Err(error) = self.shim.delete(&self.target).await
            {
                log::warn!("{error}");
            }
        }
        self.remove_files().await;
    }

    async fn remove_files(&self) {
        if let Err(error) = tokio::fs::remove_dir_all(&self.directory).await {
            log::warn!("removing {}: {error}", self.directory.display());
        }
    }
}

/// A name that no exec of an earlier run of the daemon has.
fn name() -> io::Result<String> {
    let mut random = crate::ids::new()?;
    random.truncate(12);
    Ok(format!("{random}-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// The process in OCI's words: the container's own with other arguments.
async fn process(
    site: &Site,
    container: &str,
    args: &[String],
    streams: Streams,
) -> Result<Value, Fault> {
    if args.is_empty() {
        return Err(Fault::InvalidArgument("nothing to execute: the command is empty".into()));
    }
    let path = site.node.places.bundle(container).join("config.json");
    let failed = |problem: String| Fault::Internal(format!("{}: {problem}", path.display()));
    let text = tokio::fs::read(&path).await.map_err(|error| failed(error.to_string()))?;
    let mut spec: Value =
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    let mut process = spec["process"].take();
    if !process.is_object() {
        return Err(failed("it has no process".into()));
    }
    process["args"] = json!(args);
    process["terminal"] = json!(streams.terminal);
    // The container's own is another terminal's.
    process["consoleSize"] = streams
        .size
        .map_or(Value::Null, |(columns, rows)| json!({"width": columns, "height": rows}));
    Ok(process)
}
