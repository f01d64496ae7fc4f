//! Where shims publish what happens: `containerd.services.events.ttrpc.v1.Events` on a Unix
//! socket of the daemon, which is told to each shim ([`crate::Daemon::events`]).
//!
//! A shim waits until an event is taken, for 5 s, and then tries again a few times. So a daemon
//! that does not come after its events holds up its shims, and not its memory.
//!
//! Events of one container come in order. One that was not taken in time may come again, after
//! later ones. What a shim tells while no daemon is there is lost after about 15 s. So nothing may
//! hang on events alone: [`crate::Shim::wait`] tells an exit to whoever asks, as late as they do.

mod published;

use std::collections::HashMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::api::Empty;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::create_events;
use futures::stream::{self, Stream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use ttrpc::r#async::transport::Listener;
use ttrpc::r#async::{Server, Service, TtrpcContext};
use ttrpc::{Code, get_status};

use crate::error::Error;

pub use published::{News, Published};

/// Pause after a connection that could not be taken, as for want of descriptors: it still waits, so
/// the next attempt would fail at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The server; its drop ends it.
pub struct Events {
    server: Server,
    socket: PathBuf,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Events {
    /// Serves on `socket`, in place of a server that is gone. Each event is taken from its shim when
    /// `events` has room for it.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when somebody serves there, [`Error::Other`] with what the kernel
    /// answered.
    pub async fn serve(socket: &Path, events: mpsc::Sender<Published>) -> Result<Self, Error> {
        let doing = || format!("listening for events on {}", socket.display());
        let listener = listen(socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::AlreadyExists(format!("{}: {error}", doing())),
            _ => Error::Other(format!("{}: {error}", doing())),
        })?;
        let server = Server::new().register_service(service(events));
        let mut server = server.add_listener(Listener::new(callers(listener)));
        server.start().await.map_err(|error| Error::Other(format!("{}: {error}", doing())))?;
        Ok(Self { server, socket: socket.to_owned() })
    }

    /// The socket's path, for [`crate::Daemon::events`].
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends the server and removes its socket. An event that waits for room is not taken; its shim
    /// keeps it for a while.
    pub async fn close(mut self) {
        let _gone = tokio::fs::remove_file(&self.socket).await;
        if let Err(error) = self.server.shutdown().await {
            log::debug!("ending the server of events: {error}");
        }
    }
}

fn service(events: mpsc::Sender<Published>) -> HashMap<String, Service> {
    create_events(Arc::new(Sink(events)))
}

struct Sink(mpsc::Sender<Published>);

#[async_trait]
impl containerd_shim_protos::shim_async::Events for Sink {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let Some(envelope) = request.envelope.into_option() else {
            return Err(refused(Code::INVALID_ARGUMENT, "an event without an envelope"));
        };
        // The library gives up for a shim whose time is over: then the event was not taken.
        let sent = self.0.send(Published::new(envelope)).await;
        sent.map_err(|_| refused(Code::UNAVAILABLE, "the daemon takes no more events"))?;
        Ok(Empty::new())
    }
}

fn refused(code: Code, text: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(get_status(code, text))
}

/// Listens on `path`, for this process's own user alone. A dead server's socket is replaced.
async fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path).await {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {}
                _ => return Err(error),
            }
            tokio::fs::remove_file(path).await?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    tokio::fs::set_permissions(path, Permissions::from_mode(0o600)).await?;
    Ok(listener)
}

/// Callers of this process's own user; others are turned away.
fn callers(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> + Send {
    stream::unfold(listener, |listener| async {
        loop {
            match accept(&listener).await {
                Ok(Some(caller)) => return Some((Ok(caller), listener)),
                Ok(None) => {}
                Err(error) => {
                    log::warn!("no connection for events can be taken: {error}; trying on");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    })
}

async fn accept(listener: &UnixListener) -> io::Result<Option<UnixStream>> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    if uid != rustix::process::geteuid().as_raw() {
        log::warn!("turned away a caller with user id {uid}");
        return Ok(None);
    }
    Ok(Some(stream))
}

#[cfg(test)]
mod tests;
