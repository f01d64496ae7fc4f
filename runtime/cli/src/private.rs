//! A daemon for a machine on which none serves: started by the first command that root gives.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;

use crate::client::{Client, ClientError, SOCKET};

/// What it writes.
const LOG: &str = "/var/log/cuddy/cuddyd.log";

/// How long it may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries to reach it: it makes its socket anew, so that there is nothing to watch yet.
const TRY: Duration = Duration::from_millis(20);

/// Connects to the daemon at `address`. Without one it is that at the usual place, which is started
/// if nobody serves there and this user is root.
///
/// # Errors
/// [`ClientError`], or why none could be started.
pub(crate) async fn connect(address: Option<&Path>) -> anyhow::Result<Client> {
    if let Some(address) = address {
        return Ok(Client::connect(address).await?);
    }
    let socket = Path::new(SOCKET);
    match Client::connect(socket).await {
        Err(ClientError::NoDaemon { .. }) if rustix::process::geteuid().is_root() => {
            start(socket).await
        }
        connected => Ok(connected?),
    }
}

/// Starts the daemon. Of several who come at the same time one does.
async fn start(socket: &Path) -> anyhow::Result<Client> {
    let program = program()?;
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let log = Path::new(LOG);
    for directory in [Some(directory), log.parent()].into_iter().flatten() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("making {}", directory.display()))?;
    }
    let lock = directory.join("start.lock");
    let one = File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
    rustix::fs::flock(&one, FlockOperation::LockExclusive)?;
    if let Ok(client) = Client::connect(socket).await {
        return Ok(client);
    }
    let output = OpenOptions::new().create(true).append(true).open(log);
    let output = output.with_context(|| format!("opening {LOG}"))?;
    eprintln!("cuddy: no daemon serves on {SOCKET}: starting {} (log: {LOG})", program.display());
    let begun = output.metadata()?.len();
    let mut command = Command::new(&program);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    // Ctrl-C is for this command alone.
    let child = command.process_group(0).spawn();
    let child = child.with_context(|| format!("starting {}", program.display()))?;
    served(child, socket, begun).await
}

async fn served(mut child: Child, socket: &Path, begun: u64) -> anyhow::Result<Client> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Ok(client) = Client::connect(socket).await {
            return Ok(client);
        }
        if let Some(status) = child.try_wait()? {
            bail!("cuddyd has ended ({status}): {}", last_line(begun));
        }
        if Instant::now() > until {
            bail!("cuddyd does not serve after {PATIENCE:?}: look at {LOG}");
        }
        tokio::time::sleep(TRY).await;
    }
}

/// The last line that the daemon has written, from `begun` bytes of its log on.
fn last_line(begun: u64) -> String {
    let text = std::fs::read(LOG).unwrap_or_default();
    let own = text.get(usize::try_from(begun).unwrap_or_default()..).unwrap_or_default();
    let own = String::from_utf8_lossy(own);
    own.lines().last().map_or_else(|| format!("look at {LOG}"), str::to_owned)
}

/// The daemon's program: beside this one, or where programs are.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = beside.into_iter().chain(std::env::split_paths(&path));
    let found = places.find_map(|place| Some(place.join("cuddyd")).filter(|file| file.is_file()));
    found.context("no daemon serves, and cuddyd is neither beside this program nor in PATH")
}
