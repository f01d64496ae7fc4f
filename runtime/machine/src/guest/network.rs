//! The guest's network: what it shall be, and connections to its loopback.

use std::io;
use std::time::Duration;

use agent_api::network::ApplyRequest;
use agent_api::network_ttrpc::NetworkClient;
use api::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use ttrpc::context::Context;

use super::{Guest, WORK, dial::dial};

/// How long the guest may take to reach its own loopback.
const CONNECT: Duration = Duration::from_secs(10);

impl Guest {
    /// Makes the guest's network what is described.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn apply_network(&self, request: &ApplyRequest) -> Result<(), Error> {
        let client = NetworkClient::new(self.client.clone());
        let call = client.apply(Context::default(), request);
        self.call(WORK, "configuring the guest's network", call).await.map(drop)
    }

    /// Connects to a TCP port of the guest's loopback, by IPv4 or IPv6 first.
    ///
    /// # Errors
    /// [`Error::Failed`] with the guest's reason, mostly that nobody listens there.
    pub async fn forward(&self, port: u16, v6_first: bool) -> Result<UnixStream, Error> {
        let mut stream = dial(&self.vsock, agent_api::FORWARD_PORT, &self.patience).await?;
        let [low, high] = port.to_le_bytes();
        let request = [low, high, if v6_first { 6 } else { 4 }, 0];
        let answer = async {
            stream.write_all(&request).await?;
            stream.read_u8().await
        };
        let failed =
            |error| Error::failed(&format!("connecting to port {port} of the pod"), &error);
        match self.patience.limit(CONNECT, answer).await.outcome {
            Some(Ok(0)) => Ok(stream),
            Some(Ok(errno)) => Err(failed(io::Error::from_raw_os_error(errno.into()))),
            Some(Err(error)) => Err(failed(error)),
            None => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }
}
