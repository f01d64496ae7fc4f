//! The connection that all calls to the agent share. A call can end while its bytes are being
//! written: its deadline passes, or its caller leaves. The library then closes the connection,
//! because half a message can't be taken back. A guest that reads slowly would lose its connection,
//! and be taken for lost. So bytes are written into memory first, which takes no time.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;

/// Most bytes that may wait for a guest that does not read; four of the largest calls. Not taken
/// before they are needed.
const WAITING: usize = 16 << 20;

/// A connection to the agent, as long as its bytes are carried.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    unwanted: Arc<Notify>,
    /// Its sender is there as long as the connection is.
    carried: watch::Receiver<()>,
}

impl Wire {
    /// Tells the agent that no more calls come, and waits until its end of the connection is closed.
    pub(super) async fn close(mut self) {
        self.unwanted.notify_one();
        // Nothing is ever sent: the error is that the sender is gone.
        while self.carried.changed().await.is_ok() {}
    }
}

/// A client of the agent behind `stream`.
pub(super) fn client(mut stream: UnixStream) -> (Client, Wire) {
    let (near, mut far) = tokio::io::duplex(WAITING);
    let unwanted = Arc::new(Notify::new());
    let (carries, carried) = watch::channel(());
    let wire = Wire { unwanted: unwanted.clone(), carried };
    tokio::spawn(async move {
        let carried = tokio::select! {
            // Either end's close ends both, which the client tells its callers.
            carried = tokio::io::copy_bidirectional(&mut far, &mut stream) => carried.map(drop),
            () = unwanted.notified() => end(&mut stream).await,
        };
        if let Err(error) = carried {
            log::debug!("connection to the agent: {error}");
        }
        drop(stream);
        drop(carries);
    });
    (Client::new(Socket::new(near)), wire)
}

/// Closes this end, and waits for the other's.
async fn end(stream: &mut UnixStream) -> std::io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(stream, &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use ttrpc::proto::Request;

    use super::*;

    /// Bytes of a message's header, which begins with the length of the rest.
    const HEADER: usize = 10;

    fn call(bytes: usize) -> Request {
        let timeout_nano = Duration::from_millis(50).as_nanos().try_into().unwrap();
        let payload = vec![7; bytes];
        Request { method: "m".into(), payload, timeout_nano, ..Request::default() }
    }

    async fn message(agent: &mut UnixStream) -> u32 {
        let mut header = [0; HEADER];
        agent.read_exact(&mut header).await.unwrap();
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let mut rest = vec![0; length.try_into().unwrap()];
        agent.read_exact(&mut rest).await.unwrap();
        length
    }

    #[tokio::test]
    async fn call_that_a_slow_guest_does_not_read_in_time_does_not_cost_the_connection() {
        let (host, mut agent) = UnixStream::pair().unwrap();
        let (client, _wire) = client(host);
        // More than the socket takes.
        let error = client.request(call(1 << 20)).await.unwrap_err().to_string();
        assert!(error.contains("deadline"), "{error}");
        let error = client.request(call(1)).await.unwrap_err().to_string();
        assert!(error.contains("deadline"), "{error}");
        assert!(message(&mut agent).await > 1 << 20);
        assert!(message(&mut agent).await < 1 << 10);
    }

    #[tokio::test]
    async fn connection_that_is_closed_is_over_only_when_the_agents_end_is() {
        let (host, mut agent) = UnixStream::pair().unwrap();
        let (client, wire) = client(host);
        let closing = tokio::spawn(wire.close());
        assert_eq!(agent.read(&mut [0; 8]).await.unwrap(), 0, "the agent is told");
        assert!(!closing.is_finished());
        drop(agent);
        let closed = tokio::time::timeout(Duration::from_secs(30), closing).await;
        closed.unwrap().unwrap();
        drop(client);
    }

    #[tokio::test]
    async fn end_of_the_connection_reaches_whoever_waits() {
        let (host, agent) = UnixStream::pair().unwrap();
        let (client, _wire) = client(host);
        let waiting =
            tokio::spawn(
                async move { client.request(Request { timeout_nano: 0, ..call(1) }).await },
            );
        tokio::task::yield_now().await;
        drop(agent);
        let ended = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(ended.unwrap().unwrap().is_err());
    }
}
