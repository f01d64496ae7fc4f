//! Connections from the namespace's loopback to the guest's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::error::chain;
use machine::Live;
use machine::guest::Guest;
use network::{Listeners, Network};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at one time; further ones wait to be accepted. Each costs two buffers here and in
/// the guest. The machine's socket device has 256 in all: the others are left to the agent's own
/// connections, streams and probes.
const MAX_CONNECTIONS: usize = 192;

/// Bytes in flight per direction.
const BUFFER: usize = 32 << 10;

/// After a failure to accept (no descriptors, no memory) others must finish before the next can.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens on the namespace's loopback. A host that does not allow it costs port-forwarding only.
pub(super) fn listen(network: &Network) -> Option<Listeners> {
    match network.listen() {
        Ok(listeners) => Some(listeners),
        Err(error) => {
            log::warn!("no port-forwarding to this pod: {}", chain(&error));
            None
        }
    }
}

/// Serves until the machine's end.
pub(super) async fn serve(listeners: Listeners, live: Live) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let serve = async {
        while let Ok(room) = Arc::clone(&room).acquire_owned().await {
            match listeners.accept().await {
                Ok((stream, address)) => {
                    tokio::spawn(carry(stream, address, live.guest.clone(), room));
                }
                Err(error) => {
                    log::warn!("accepting a connection to the pod's loopback: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = serve => {}
        _ = live.machine.ended() => {}
    }
}

/// Carries one connection until both sides have ended it, or until one breaks.
async fn carry(
    mut stream: TcpStream,
    address: SocketAddr,
    guest: Guest,
    _room: OwnedSemaphorePermit,
) {
    // Whoever writes has chosen when to send, and each hop that gathers would make it wait.
    let _slower = stream.set_nodelay(true);
    let connected = guest.forward(address.port(), address.is_ipv6()).await;
    let done = match connected {
        Ok(mut pod) => copy_bidirectional_with_sizes(&mut stream, &mut pod, BUFFER, BUFFER).await,
        Err(error) => Err(std::io::Error::other(error)),
    };
    if let Err(error) = done {
        log::debug!("connection to {address} of the pod: {error}");
        // The client shall not take a broken connection for one that has ended.
        let _reset = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    }
}
