//! The CRI servers that are compared, with their handlers. Each is alone on the host while it is
//! measured.

use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::cri::{Cri, Cuddyd, Daemon, bridge};

use crate::usage::Server;

/// What `tests/lab/peers.sh` put into the payload.
pub(crate) const PEERS: &str = "/opt/cuddy/peers";

/// A server, and a handler of its.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Server and handler, for people.
    pub(crate) who: String,
    pub(crate) cri: Cri,
    pub(crate) process: Server,
    pub(crate) handler: &'static str,
}

/// Measures every server with every handler: ours with a machine first; containerd with runc, with
/// gVisor if that was brought along, and at last with a machine. containerd's programs are in
/// `programs`.
pub(crate) fn each(programs: &Path, mut measure: impl FnMut(&Peer) -> Result<()>) -> Result<()> {
    {
        let daemon = Cuddyd::quiet("");
        daemon.pull("busybox");
        let (cri, process) = (daemon.cri(), Server(daemon.pid()));
        measure(&Peer { who: "cuddyd".to_owned(), cri, process, handler: "cuddy" })?;
    }
    let gvisor = Path::new(PEERS).join("runsc-ptrace");
    let more = if gvisor.exists() { handler(programs, "runsc", &gvisor) } else { String::new() };
    let daemon = Daemon::with(programs, bridge, &more);
    let handlers = ["runc", "runsc", "cuddy"];
    for handler in handlers.into_iter().filter(|name| *name != "runsc" || !more.is_empty()) {
        let who = format!("containerd {}, {handler}", daemon.version());
        let (cri, process) = (daemon.cri(), Server(daemon.pid()));
        measure(&Peer { who, cri, process, handler })?;
        daemon.settled();
    }
    Ok(())
}

/// containerd's settings for a handler whose program runc's shim calls in runc's place, as Debian
/// has no shim of gVisor's.
fn handler(programs: &Path, name: &str, binary: &Path) -> String {
    let plugin = match harness::containerd::release(programs) {
        (..2, _) => "io.containerd.grpc.v1.cri",
        _ => "io.containerd.cri.v1.runtime",
    };
    format!(
        "[plugins.'{plugin}'.containerd.runtimes.{name}]\n\
         runtime_type = 'io.containerd.runc.v2'\n\
         [plugins.'{plugin}'.containerd.runtimes.{name}.options]\n\
         BinaryName = '{}'\n",
        binary.display()
    )
}

/// Where the programs of containerd are that peers are measured with: the newest that was brought
/// along, else the host's own.
pub(crate) fn newest() -> PathBuf {
    let brought = Path::new("/opt/cuddy/containerd").exists();
    if brought { harness::containerd::newest() } else { "/usr/bin".into() }
}
