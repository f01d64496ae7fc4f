//! `start`: joins the daemon of the container's pod or starts it, and tells its address. Standard
//! output and error reach containerd as one stream, so nothing else may be printed.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use sandbox::journal::Entry;
use sandbox::store::StateDir;
use sandbox::{Config, Namespace, SandboxId};
use serde_json::Value;

use crate::bootstrap::flags::Flags;
use crate::bootstrap::group_of;
use crate::bootstrap::params::Params;
use crate::listen::{self, Listening};

/// Most bytes of standard input that are looked at; options are a few hundred.
const MAX_INPUT: u64 = 1 << 20;

/// Environment variable with containerd's event socket.
pub(crate) const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";

/// Does it; returns the answer for standard output.
pub(crate) fn run(flags: &Flags) -> anyhow::Result<Vec<u8>> {
    let mut input = Vec::new();
    // No input at all is CRI-O's way.
    let _closed = std::io::stdin().take(MAX_INPUT).read_to_end(&mut input);
    let params = Params::read(&input, flags, std::env::var(TTRPC_ADDRESS).ok());
    let bundle = std::env::current_dir().context("finding the bundle")?;
    let group = group_of(&read_config(&bundle)?, &flags.id);
    let namespace = Namespace::new(&flags.namespace)?;
    let sandbox = SandboxId::new(&group)?;
    let socket = listen::socket_path(&params.socket_dir, &flags.address, &flags.namespace, &group);
    let address = format!("unix://{}", socket.display());
    // A mistake in the configuration is best told now, by name.
    Config::load()?;
    let state = StateDir::new(&namespace, &sandbox);
    let listening =
        listen::listen(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    if let Listening::Fresh { listener, lock } = listening {
        if let Some(owner) = state.foreign_owner(&flags.address) {
            let _left = std::fs::remove_file(&socket);
            bail!("sandbox {sandbox} of namespace {namespace} belongs to the daemon at {owner:?}");
        }
        let daemon = Daemon { flags, params: &params, sandbox: &sandbox, socket: &socket };
        let fds = [listener.into(), lock];
        if flags.address.is_empty() {
            sweep(&state);
        }
        let prepared = prepare(&state, &socket, &flags.address);
        if let Err(error) = prepared.and_then(|()| daemon.spawn(&fds)) {
            let _left = std::fs::remove_file(&socket);
            let _left = state.destroy();
            return Err(error);
        }
    }
    let file = bundle.join("address");
    std::fs::write(&file, &address).with_context(|| format!("writing {}", file.display()))?;
    Ok(params.answer.bytes(&address)?)
}

/// The bundle's configuration; null where there is none, as for a sandbox without container.
fn read_config(bundle: &Path) -> anyhow::Result<Value> {
    let path = bundle.join("config.json");
    match std::fs::read(&path) {
        Ok(text) => {
            serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Clears up after other pods whose daemon has died. For containerd's, `delete` does; CRI-O never
/// executes it, so the next pod's start does. Whoever starts a daemon holds the lock until it has
/// noted itself in its journal, and so does this process now.
fn sweep(state: &StateDir) {
    for abandoned in state.abandoned() {
        // Tried again by the next start. Nobody listens, and it is not this pod's business.
        let _later = abandoned.destroy();
    }
}

/// Clears what a daemon that died has left, and notes what this one will leave.
fn prepare(state: &StateDir, socket: &Path, containerd: &str) -> anyhow::Result<()> {
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
    state.set_owner(containerd).with_context(|| format!("writing in {path}"))?;
    journal.add(&Entry::File { path: socket.to_owned() }).context("writing the journal")
}

struct Daemon<'a> {
    flags: &'a Flags,
    params: &'a Params,
    sandbox: &'a SandboxId,
    socket: &'a Path,
}

impl Daemon<'_> {
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
        let started = sandbox::spawn::spawn(command, fds);
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
        let _kept = sandbox::cgroup::set_oom_score(daemon, score.saturating_add(1).min(1000));
    }
}
