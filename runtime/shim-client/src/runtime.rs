//! A runtime: the binary of a kind of shim. It is executed to start a shim and to clean up after
//! one, on behalf of a daemon.

mod command;
mod dialect;

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::events::Exit;
use api::{ContainerId, Namespace};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, Extension, LogLevel};
use protobuf::{EnumOrUnknown, Message};
use tokio::process::Command;

use crate::convert;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::shim::Shim;
use crate::words::Any;
use crate::{bundle, shim_log};
use dialect::{Dialect, Known};

pub use dialect::Info;

/// How long an execution may take unless the caller says otherwise. A start of ours may have to
/// end what a dead shim left, and a delete to wait for disks that are flushed: 75 s each.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a shim that has just been started may take for its first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(30);

/// What every shim is told of the daemon that starts it.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// The namespace of all its containers.
    pub namespace: Namespace,
    /// Its own socket. It is a part of the names of shims' sockets, so it must stay the same from
    /// one run of the daemon to the next, and be no other daemon's.
    pub address: String,
    /// Path of the socket to which shims publish events: that of [`crate::events::Events`].
    /// Containerd's shims from 1.4 on know no other way. Empty: they publish nothing, but those
    /// of containerd try each event for a while.
    pub events: String,
    /// A program that older shims execute for each event, as `PROGRAM publish --topic … `. None of
    /// today's does, but all are told one.
    pub publish_binary: PathBuf,
    /// How much shims shall log.
    pub log_level: log::Level,
    /// Directory for shims' sockets, short because their paths are limited; none: that of
    /// containerd. Containerd's shims before 2.3 take no other.
    pub socket_dir: Option<PathBuf>,
    /// Its version.
    pub version: String,
    /// More of the environment of shims.
    pub environment: Vec<(OsString, OsString)>,
}

/// A kind of shim. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    binary: PathBuf,
    daemon: Arc<Daemon>,
    limit: Duration,
    dialect: Arc<Known>,
}

impl Runtime {
    /// Finds the runtime `name`. It is either a type as `io.containerd.cuddy.v2`, whose binary
    /// `containerd-shim-cuddy-v2` is looked for in `path` (in the form of `PATH`), or the whole
    /// path of a binary.
    ///
    /// # Errors
    /// [`Error::Runtime`] with what was looked for and where.
    pub fn find(name: &str, path: &OsStr, daemon: Arc<Daemon>) -> Result<Self, Error> {
        let binary = find(name, path).map_err(Error::Runtime)?;
        Ok(Self { binary, daemon, limit: LIMIT, dialect: Arc::default() })
    }

    /// The same runtime, whose binary's executions may take no longer than this.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// What the runtime says of itself; none: it is older than the question, or failed to answer.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::DeadlineExceeded`].
    pub async fn info(&self) -> Result<Option<Info>, Error> {
        match self.dialect.ask(&self.binary, self.limit).await? {
            Dialect::Params(info) => Ok(info),
            Dialect::Legacy => Ok(None),
        }
    }

    /// Starts the shim of `id`, a container or a sandbox, or finds the one that its pod has, and
    /// connects to it. `bundle` is its directory, of the same name as `id` for containerd's shims,
    /// with the configuration in `config.json`. `options` are the runtime's own.
    ///
    /// Where the shim is gets written into the bundle, for [`Shim::reconnect`].
    ///
    /// # Errors
    /// [`Error::Runtime`]; [`Error::Command`] with what the binary said; [`Error::DeadlineExceeded`];
    /// those of the connection. The shim may live nevertheless, so [`Runtime::delete`] is next.
    pub async fn start(
        &self,
        bundle: &Path,
        id: &ContainerId,
        options: Option<&Any>,
    ) -> Result<Shim, Error> {
        let doing = format!("starting the shim of {:?}", id.as_str());
        let failed = |what: &str, error: std::io::Error| {
            Error::Other(format!("{doing}: {what} in {}: {error}", bundle.display()))
        };
        let log = shim_log::open(bundle).map_err(|error| failed("making the log", error))?;
        let input = match self.dialect.ask(&self.binary, self.limit).await? {
            Dialect::Params(_) => self.params(id, options),
            Dialect::Legacy => {
                options.map_or(Ok(Vec::new()), |any| convert::rpc_any(any).write_to_bytes())
            }
        };
        let input = input.map_err(|error| Error::Other(format!("{doing}: {error}")))?;
        let mut command = self.command(bundle, id);
        command.arg("start");
        let answer = command::run(&doing, command, input, self.limit).await?.success(&doing)?;
        let endpoint = Endpoint::parse(&answer)
            .map_err(|error| Error::Command(format!("{doing}: its answer: {error}")))?;
        let (shim, endpoint) = Shim::connect_to(endpoint, id.as_str(), FIRST_ANSWER).await?;
        let written = bundle::write(bundle, &endpoint).await;
        written.map_err(|error| failed("writing the address", error))?;
        shim_log::follow(log, id.to_string(), shim.connection());
        Ok(shim)
    }

    /// Cleans up after the shim of `id` or, with a shim of Task v2, after one of its containers.
    /// It needs no living shim, and ends one that lives if `id` is its first container. What is in
    /// the bundle stays. It can be repeated, but not beside a start of the same pod.
    ///
    /// The shims of containerd 1 fail for a container that was never created: end those by
    /// [`Shim::shutdown`].
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Command`] with what the binary said, [`Error::DeadlineExceeded`].
    pub async fn delete(&self, bundle: &Path, id: &ContainerId) -> Result<Exit, Error> {
        let doing = format!("cleaning up after the shim of {:?}", id.as_str());
        let mut command = self.command(bundle, id);
        command.arg("-bundle").arg(bundle).arg("delete");
        let finished = command::run(&doing, command, Vec::new(), self.limit).await?;
        let answer = finished.success(&doing)?;
        // Containerd's shims leave it.
        bundle::remove_dead_socket(bundle).await;
        exit(&answer).ok_or_else(|| Error::Command(format!("{doing}: its answer makes no sense")))
    }

    /// The binary with all flags and variables but what is to be done.
    fn command(&self, bundle: &Path, id: &ContainerId) -> Command {
        let Daemon { namespace, address, events, publish_binary, .. } = &*self.daemon;
        let mut command = Command::new(&self.binary);
        command.args(["-namespace", namespace.as_str(), "-address", address]);
        command.arg("-publish-binary").arg(publish_binary).args(["-id", id.as_str()]);
        if self.daemon.log_level >= log::Level::Debug {
            command.arg("-debug");
        }
        // What containerd tells its shims. Each of Go's would take a thread for every CPU.
        command.env("GOMAXPROCS", "2").env("NAMESPACE", namespace.as_str());
        command.env("TTRPC_ADDRESS", events).env("GRPC_ADDRESS", address);
        command.envs(self.daemon.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(bundle);
        command
    }

    fn params(&self, id: &ContainerId, options: Option<&Any>) -> protobuf::Result<Vec<u8>> {
        let daemon = &*self.daemon;
        let log_level = match daemon.log_level {
            log::Level::Error => LogLevel::LOG_LEVEL_ERROR,
            log::Level::Warn => LogLevel::LOG_LEVEL_WARN,
            log::Level::Info => LogLevel::LOG_LEVEL_INFO,
            log::Level::Debug => LogLevel::LOG_LEVEL_DEBUG,
            log::Level::Trace => LogLevel::LOG_LEVEL_TRACE,
        };
        let extension =
            |any| Extension { value: convert::rpc_option(Some(any)), ..Default::default() };
        let params = BootstrapParams {
            instance_id: id.to_string(),
            namespace: daemon.namespace.to_string(),
            log_level: EnumOrUnknown::new(log_level),
            containerd_version: daemon.version.clone(),
            containerd_ttrpc_address: daemon.events.clone(),
            containerd_grpc_address: daemon.address.clone(),
            containerd_binary: daemon.publish_binary.display().to_string(),
            extensions: options.map(extension).into_iter().collect(),
            socket_dir: daemon.socket_dir.as_ref().map(|dir| dir.display().to_string()),
            ..BootstrapParams::default()
        };
        params.write_to_bytes()
    }
}

/// Reads the answer to `delete`; none if it is none (pure).
pub(crate) fn exit(answer: &[u8]) -> Option<Exit> {
    let response = DeleteResponse::parse_from_bytes(answer).ok().filter(|_| !answer.is_empty())?;
    Some(convert::exit(response.exit_status, &response.exited_at))
}

/// The binary of the runtime `name`, or why there is none.
fn find(name: &str, path: &OsStr) -> Result<PathBuf, String> {
    if Path::new(name).is_absolute() {
        return match is_executable(Path::new(name)) {
            true => Ok(name.into()),
            false => Err(format!("runtime {name} is no file that can be executed")),
        };
    }
    let file = file_name(name).ok_or_else(|| {
        format!("runtime {name:?} is neither a type as io.containerd.cuddy.v2 nor a whole path")
    })?;
    let places = std::env::split_paths(path).filter(|place| place.is_absolute());
    let mut files = places.map(|place| place.join(&file));
    files.find(|file| is_executable(file)).ok_or_else(|| {
        format!("runtime {name}: no {file} that can be executed in {}", path.display())
    })
}

/// Name of the binary of a type (pure).
fn file_name(runtime: &str) -> Option<String> {
    let (rest, version) = runtime.rsplit_once('.')?;
    let (before, name) = rest.rsplit_once('.')?;
    let word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+".contains(&byte))
    };
    (!before.is_empty() && word(name) && word(version))
        .then(|| format!("containerd-shim-{name}-{version}"))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
