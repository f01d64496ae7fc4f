//! One connection to a shim, which all calls to it share, and its end.
//!
//! A call can end while its bytes are being written: its deadline passes, or its caller leaves. The
//! library then closes the connection, because half a message can't be taken back. A shim that
//! reads slowly would lose its connection, and be taken for dead. So bytes are written into memory
//! first, which takes no time.

use std::io;
use std::path::Path;
use std::time::Duration;

use protobuf::Message;
use tokio::net::UnixStream;
use tokio::sync::watch;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::proto::Request;

use crate::error::Error;

/// Most bytes that may wait for a shim that does not read; four of the largest calls. Not taken
/// before they are needed.
const WAITING: usize = 16 << 20;

/// Pause between two attempts to connect to a socket that has as many callers as it can hold.
const PAUSE: Duration = Duration::from_millis(20);

/// By how much longer a shim works on a call than its caller waits. The caller's clock decides, so
/// that all late answers are told alike.
const LONGER: Duration = Duration::from_secs(1);

/// A call: service, method, and what is being done by it, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    pub(crate) doing: &'a str,
}

/// A connection; cheap to clone. The last one's drop closes it.
#[derive(Clone)]
pub(crate) struct Connection {
    client: Client,
    /// Its sender is dropped when the connection is over.
    over: watch::Receiver<()>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("over", &self.is_over()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to `socket`. A shim that takes no connections is waited for.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) async fn dial(socket: &Path) -> io::Result<Self> {
        loop {
            match UnixStream::connect(socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(PAUSE).await;
                }
                connected => return connected.map(Self::new),
            }
        }
    }

    fn new(mut stream: UnixStream) -> Self {
        let (near, far) = tokio::io::duplex(WAITING);
        let (until_over, over) = watch::channel(());
        tokio::spawn(async move {
            let (mut from_client, mut to_client) = tokio::io::split(far);
            let (mut from_shim, mut to_shim) = stream.split();
            // The first end ends both: a shim that hangs keeps nobody who has hung up.
            let ended = tokio::select! {
                ended = tokio::io::copy(&mut from_shim, &mut to_client) => ended,
                ended = tokio::io::copy(&mut from_client, &mut to_shim) => ended,
            };
            if let Err(error) = ended {
                log::debug!("connection to a shim: {error}");
            }
            drop(until_over);
        });
        Self { client: Client::new(Socket::new(near)), over }
    }

    /// Makes a call and waits for its answer, no longer than `limit` if there is one.
    ///
    /// # Errors
    /// What the shim answered; [`Error::Disconnected`] as soon as the connection is over;
    /// [`Error::DeadlineExceeded`].
    pub(crate) async fn call<T: Message>(
        &self,
        call: Call<'_>,
        message: &impl Message,
        limit: Option<Duration>,
    ) -> Result<T, Error> {
        let Call { service, method, doing } = call;
        // The library knows, too, but its errors are harder to tell apart.
        if self.is_over() {
            return Err(Error::disconnected(doing));
        }
        let nonsense = |error| Error::Other(format!("{doing}: {error}"));
        let payload = message.write_to_bytes().map_err(nonsense)?;
        let told = limit.map_or(0, |limit| (limit + LONGER).as_nanos());
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: i64::try_from(told).unwrap_or(i64::MAX),
            ..Request::default()
        };
        let answer = self.client.request(request);
        let answer = match limit {
            Some(limit) => tokio::time::timeout(limit, answer).await.map_err(|_| {
                let text = format!("{doing}: no answer from the shim for {limit:?}");
                Error::DeadlineExceeded(text)
            })?,
            None => answer.await,
        };
        let answer = answer.map_err(|error| Error::of_call(doing, service, method, error))?;
        T::parse_from_bytes(&answer.payload).map_err(nonsense)
    }

    /// The connection's end, to wait for; it does not keep the connection open.
    pub(crate) fn ending(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut over = self.over.clone();
        async move { while over.changed().await.is_ok() {} }
    }

    fn is_over(&self) -> bool {
        self.over.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::api::{Empty, PidsRequest};
    use tokio::io::AsyncReadExt;

    use super::*;

    const CALL: Call<'_> = Call { service: "s", method: "m", doing: "asking" };
    const BRIEFLY: Duration = Duration::from_millis(50);

    fn request(bytes: usize) -> PidsRequest {
        PidsRequest { id: "x".repeat(bytes), ..PidsRequest::default() }
    }

    /// Reads a message of ttrpc: a header of ten bytes, which begins with the length of the rest.
    async fn message(shim: &mut UnixStream) -> u32 {
        let mut header = [0; 10];
        shim.read_exact(&mut header).await.unwrap();
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let mut rest = vec![0; length.try_into().unwrap()];
        shim.read_exact(&mut rest).await.unwrap();
        length
    }

    #[tokio::test]
    async fn call_that_a_shim_does_not_read_in_time_does_not_cost_the_connection() {
        let (near, mut shim) = UnixStream::pair().unwrap();
        let connection = Connection::new(near);
        // More than the socket takes.
        for bytes in [1 << 20, 1] {
            let late = connection.call::<Empty>(CALL, &request(bytes), Some(BRIEFLY)).await;
            assert!(matches!(late, Err(Error::DeadlineExceeded(_))), "{late:?}");
        }
        assert!(message(&mut shim).await > 1 << 20);
        assert!(message(&mut shim).await < 1 << 10);
        assert!(!connection.is_over());
        let huge = connection.call::<Empty>(CALL, &request(5 << 20), Some(BRIEFLY)).await;
        assert!(matches!(&huge, Err(Error::Other(text)) if text.contains("maximum")), "{huge:?}");
    }

    #[tokio::test]
    async fn last_handle_hangs_up_on_a_shim_that_hangs() {
        let (near, mut shim) = UnixStream::pair().unwrap();
        let connection = Connection::new(near);
        let ending = connection.ending();
        drop(connection.clone());
        assert!(!connection.is_over());
        drop(connection);
        ending.await;
        assert_eq!(shim.read(&mut [0]).await.unwrap(), 0);
    }
}
