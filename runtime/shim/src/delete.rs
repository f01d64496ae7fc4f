//! `delete` cleans up after a container without the help of any daemon. It works in whatever state
//! things are, and as often as it is called. For the container that is the sandbox itself,
//! everything goes. For another container there is nothing to do: its daemon clears up after it.
//! What a dead daemon has left goes with the sandbox. A sandbox of the same name that another
//! daemon owns stays. CRI-O never calls `delete`: there, `start` clears up after dead daemons.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use api::events::Exit;
use api::{Namespace, SandboxId};
use containerd_shim_protos::api::DeleteResponse;
use host::store::{STARTING, StateDir};
use protobuf::Message;
use sandbox::spec::Document;

use crate::bootstrap::flags::Flags;
use crate::bootstrap::group_of;
use crate::start::owner;
use crate::{convert, listen};

/// How long a sandbox that is ending in order, which includes flushing its disks, is left alone.
const CLOSING: Duration = Duration::from_secs(75);

/// Does it; returns the answer for standard output.
pub(crate) fn run(flags: &Flags) -> anyhow::Result<Vec<u8>> {
    let bundle = match flags.bundle.as_str() {
        "" => std::env::current_dir().context("finding the bundle")?,
        named => PathBuf::from(named),
    };
    let config = std::fs::read(bundle.join("config.json")).unwrap_or_default();
    let config = Document::parse(&config, "config.json").unwrap_or_default();
    let group = group_of(&config, &flags.id).unwrap_or_else(|_| flags.id.clone());
    let namespace = Namespace::new(&flags.namespace)?;
    let state = StateDir::new(&namespace, &SandboxId::new(&group)?);
    let socket = socket_of(&bundle);
    // A daemon that is just being started is not in the journal yet. One that hangs may be.
    drop(state.lock(STARTING));
    if state.foreign_owner(&owner(&flags.address))?.is_some() {
        // Another daemon's sandbox of the same name.
        remove_dead(socket.as_deref());
    } else if group == flags.id {
        // Containerd calls this for a daemon that has said goodbye, too.
        state
            .wait_closed(CLOSING)
            .with_context(|| format!("reading {}", state.path().display()))?;
        state.destroy().with_context(|| format!("clearing {}", state.path().display()))?;
        remove_dead(socket.as_deref());
    }
    let response = DeleteResponse {
        exit_status: Exit::KILLED,
        exited_at: convert::timestamp(SystemTime::now()).into(),
        ..DeleteResponse::default()
    };
    Ok(response.write_to_bytes()?)
}

/// The socket that `start` noted in the bundle.
fn socket_of(bundle: &Path) -> Option<PathBuf> {
    let address = std::fs::read_to_string(bundle.join("address")).ok()?;
    address.strip_prefix("unix://").map(PathBuf::from)
}

/// Removes a socket behind which nobody is left.
fn remove_dead(socket: Option<&Path>) {
    if let Some(socket) = socket
        && socket.exists()
        && !listen::answers(socket)
        && let Err(error) = std::fs::remove_file(socket)
    {
        eprintln!("removing {}: {error}", socket.display());
    }
}
