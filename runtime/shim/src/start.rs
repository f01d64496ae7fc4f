//! `start`: joins the daemon of the container's pod or starts it, and tells its address. Standard
//! output and error reach containerd as one stream, so nothing else may be printed.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use api::{Namespace, SandboxId};
use host::Config;
use host::journal::Entry;
use host::store::{Owner, PlaceLock, StateDir};
use sandbox::spec::Document;

use crate::bootstrap::flags::Flags;
use crate::bootstrap::group_of;
use crate::bootstrap::params::Params;
use crate::listen::{self, Listening};

/// Most bytes of standard input that are looked at; options are a few hundred.
const MAX_INPUT: u64 = 1 << 20;

/// How long another start of the same sandbox may take, which may have to end what a dead one left;
/// or its end, which may have to flush its disks for a minute.
const LOCK_LIMIT: Duration = Duration::from_secs(75);

/// How long the start of one of CRI-O's pods may clear up after others that have died.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);

/// Environment variable with containerd's event socket.
pub(crate) const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";

/// Does it; returns the answer for standard output.
pub(crate) fn run(flags: &Flags) -> anyhow::Result<Vec<u8>> {
    let mut input = Vec::new();
    // No input at all is CRI-O's way.
    let _closed = std::io::stdin().take(MAX_INPUT).read_to_end(&mut input);
    let params = Params::read(&input, flags, std::env::var(TTRPC_ADDRESS).ok());
    let bundle = std::env::current_dir().context("finding the bundle")?;
    let group = group_of(&read_config(&bundle)?, &flags.id)?;
    let namespace = Namespace::new(&flags.namespace)?;
    let sandbox = SandboxId::new(&group)?;
    let socket = listen::socket_path(&params.socket_dir, &flags.address, &flags.namespace, &group);
    let address = format!("unix://{}", socket.display());
    // A mistake in the configuration is best told now, by name.
    Config::load()?;
    let state = StateDir::new(&namespace, &sandbox);
    let lock = state.lock(LOCK_LIMIT).with_context(|| format!("starting sandbox {sandbox}"))?;
    let owner = owner(&flags.address);
    let listening =
        listen::listen(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    if let Listening::Fresh(listener) = listening {
        let daemon = Daemon { flags, params: &params, sandbox: &sandbox, socket: &socket };
        let started = daemon.start(listener, &lock, &state, &owner);
        started.inspect_err(|_| drop(std::fs::remove_file(&socket)))?;
        lock.leave();
    } else {
        drop(lock);
    }
    if owner == Owner::CriO {
        state.sweep(SWEEP_LIMIT);
    }
    let file = bundle.join("address");
    std::fs::write(&file, &address).with_context(|| format!("writing {}", file.display()))?;
    Ok(params.answer.bytes(&address)?)
}

/// The bundle's configuration; empty where there is none, as for a sandbox without container.
fn read_config(bundle: &Path) -> anyhow::Result<Document> {
    let path = bundle.join("config.json");
    match std::fs::read(&path) {
        Ok(text) => Ok(Document::parse(&text, path.display())?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Document::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Whose sandboxes a caller with this socket starts: CRI-O has none for shims.
pub(crate) fn owner(address: &str) -> Owner {
    match address {
        "" => Owner::CriO,
        address => Owner::Containerd { address: address.to_owned() },
    }
}

/// Clears what a daemon that died has left, and notes what this one will leave.
fn prepare(state: &StateDir, socket: &Path, owner: &Owner) -> anyhow::Result<()> {
    let path = state.path().display();
    // Its journal names the socket, which has just been made anew under the same name.
    if state.path().exists() {
        let kept = socket.with_extension("new");
        std::fs::rename(socket, &kept)?;
        let cleared = state.destroy();
        std::fs::rename(&kept, socket)?;
        cleared.with_context(|| format!("clearing {path}"))?;
    }
    let mut journal = state.create().with_context(|| format!("making {path}"))?;
    state.step("start");
    state.set_owner(owner).with_context(|| format!("writing in {path}"))?;
    journal.add(&Entry::File { path: socket.to_owned() }).context("writing the journal")
}

struct Daemon<'a> {
    flags: &'a Flags,
    params: &'a Params,
    sandbox: &'a SandboxId,
    socket: &'a Path,
}

impl Daemon<'_> {
    /// Takes the sandbox's place on the host and starts the daemon. What of it has been done when
    /// it fails is undone, but for the socket.
    fn start(
        &self,
        listener: UnixListener,
        lock: &PlaceLock,
        state: &StateDir,
        owner: &Owner,
    ) -> anyhow::Result<()> {
        if let Some(other) = state.foreign_owner(owner)? {
            let (sandbox, namespace) = (self.sandbox, &self.flags.namespace);
            bail!("sandbox {sandbox} of namespace {namespace} belongs to {other}");
        }
        let prepared = prepare(state, self.socket, owner);
        let started = prepared.and_then(|()| self.spawn(&[listener.into(), lock.share()?]));
        started.inspect_err(|_| drop(state.destroy()))
    }

    /// Starts the daemon: this binary again, with the listener and the lock as descriptors 3 and 4.
    fn spawn(&self, fds: &[OwnedFd]) -> anyhow::Result<()> {
        let binary = std::env::current_exe().context("finding the shim's binary")?;
        if !binary.is_file() {
            bail!("the shim's binary {} is gone", binary.display());
        }
        let mut command = Command::new(&binary);
        command.args(["-namespace", &self.flags.namespace, "-id", self.sandbox.as_str()]);
        command.args(["-address", &self.flags.address]).arg("-socket").arg(self.socket);
        if self.params.debug {
            command.arg("-debug");
        }
        command.arg("daemon").env(TTRPC_ADDRESS, &self.params.ttrpc_address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = host::spawn::spawn(command, fds);
        let daemon = started.with_context(|| format!("starting {}", binary.display()))?;
        protect(daemon.id());
        Ok(())
    }
}

/// Makes the daemon a little less precious than containerd to the OOM killer, as containerd's own
/// shims are. Without the right to do so it stays as precious.
fn protect(daemon: u32) {
    let containerd = std::os::unix::process::parent_id();
    let score = std::fs::read_to_string(format!("/proc/{containerd}/oom_score_adj"));
    let score = score.ok().and_then(|score| score.trim().parse::<i32>().ok());
    if let Some(score) = score {
        let _kept = host::cgroup::set_oom_score(daemon, score.saturating_add(1).min(1000));
    }
}
