//! The agent's server: ttrpc services and process streams, and the sign that both accept.

use std::io;
use std::path::Path;
use std::sync::Arc;

use agent_api::{FORWARD_PORT, READY_PORT, RPC_PORT, STREAM_PORT};

use crate::admission::Entrance;
use crate::forward;
use crate::rpc;
use crate::sandbox::Sandbox;
use crate::socket::{Connection, Listener};
use crate::stdio;
use crate::sys;

/// Where the host connects to.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// ttrpc services.
    pub(crate) rpc: Listener,
    /// Process streams.
    pub(crate) streams: Listener,
    /// Connections to the guest's loopback.
    pub(crate) forward: Listener,
}

impl Listeners {
    /// The vsock ports of agent-api.
    pub(crate) fn vsock() -> io::Result<Self> {
        Ok(Self {
            rpc: Listener::vsock(RPC_PORT)?,
            streams: Listener::vsock(STREAM_PORT)?,
            forward: Listener::vsock(FORWARD_PORT)?,
        })
    }

    /// `rpc.sock`, `streams.sock` and `forward.sock` in a directory.
    pub(crate) fn unix(directory: &Path) -> io::Result<Self> {
        let listen = |name| Listener::unix(&directory.join(name));
        Ok(Self {
            rpc: listen("rpc.sock")?,
            streams: listen("streams.sock")?,
            forward: listen("forward.sock")?,
        })
    }
}

/// Starts to serve in the background of the current runtime.
///
/// # Errors
/// The ttrpc server refused to start.
pub(crate) async fn serve(listeners: Listeners, sandbox: Arc<Sandbox>) -> ttrpc::Result<()> {
    let streams = Arc::clone(sandbox.streams());
    let entrance = |listener| Entrance::new(listener, sandbox.admission());
    tokio::spawn(stdio::accept_streams(entrance(listeners.streams), streams));
    tokio::spawn(forward::serve(entrance(listeners.forward)));
    let mut server = ttrpc::r#async::Server::new()
        .add_listener(ttrpc::r#async::transport::Listener::new(listeners.rpc));
    for service in rpc::services(&sandbox) {
        server = server.register_service(service);
    }
    server.start().await?;
    // It serves until the machine ends.
    std::mem::forget(server);
    Ok(())
}

/// The sign to the host, on its way. Dropped too early it could be withdrawn.
#[derive(Debug)]
pub(crate) struct Announcement(Connection);

impl Announcement {
    /// Waits until the host has refused the connection.
    pub(crate) async fn answered(self) {
        // Whatever the answer is, the sign has arrived.
        let _ = self.0.receive(&mut [0]).await;
    }
}

/// Tells the host that the listeners accept, without waiting.
pub(crate) fn announce_ready() -> Option<Announcement> {
    let socket = match sys::vsock::begin_connect_to_host(READY_PORT) {
        Ok(socket) => socket,
        // The refusal may arrive at once.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
        Err(error) => {
            log::warn!("cannot tell the host that the agent serves: {error}");
            return None;
        }
    };
    Connection::new(socket).ok().map(Announcement)
}
