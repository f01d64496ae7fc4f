//! Standard streams of processes: connections of the host on one side, pipes or a terminal on
//! the other.

mod pairing;

use std::sync::Arc;

pub(crate) use pairing::Streams;

use crate::socket::Listener;

/// Accepts stream connections for ever and keeps them for the process that names them.
pub(crate) async fn accept_streams(listener: Listener, streams: Arc<Streams>) {
    loop {
        match listener.accept().await {
            Ok(connection) => {
                tokio::spawn(pairing::identify(connection, Arc::clone(&streams)));
            }
            Err(error) => {
                // Out of descriptors or memory: others must finish before the next can come.
                log::warn!("accept a stream: {error}");
                tokio::time::sleep(pairing::ACCEPT_PAUSE).await;
            }
        }
    }
}
