//! The connection that all calls to the agent share. A call can end while its bytes are being
//! written: its deadline passes, or its caller leaves. The library then closes the connection,
//! because half a message can't be taken back. A guest that reads slowly would lose its connection,
//! and be taken for lost. So bytes are written into memory first, which takes no time.

use tokio::net::UnixStream;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;

/// Most bytes that may wait for a guest that does not read; four of the largest calls. Not taken
/// before they are needed.
const WAITING: usize = 16 << 20;

/// A client of the agent behind `stream`.
pub(super) fn client(mut stream: UnixStream) -> Client {
    let (near, mut far) = tokio::io::duplex(WAITING);
    tokio::spawn(async move {
        // Either end's close ends both, which the client tells its callers.
        if let Err(error) = tokio::io::copy_bidirectional(&mut far, &mut stream).await {
            log::debug!("connection to the agent: {error}");
        }
    });
    Client::new(Socket::new(near))
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
        let client = client(host);
        // More than the socket takes.
        let error = client.request(call(1 << 20)).await.unwrap_err().to_string();
        assert!(error.contains("deadline"), "{error}");
        let error = client.request(call(1)).await.unwrap_err().to_string();
        assert!(error.contains("deadline"), "{error}");
        assert!(message(&mut agent).await > 1 << 20);
        assert!(message(&mut agent).await < 1 << 10);
    }

    #[tokio::test]
    async fn end_of_the_connection_reaches_whoever_waits() {
        let (host, agent) = UnixStream::pair().unwrap();
        let client = client(host);
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
