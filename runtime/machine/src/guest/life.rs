//! The guest as a whole, from its first answer to its end.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_api::health_ttrpc::HealthClient;
use agent_api::sandbox_ttrpc::SandboxClient;
use agent_api::{health, sandbox, types};
use api::Error;
use ttrpc::context::Context;

use super::{ASK, Guest, WORK, explain};
use crate::SHARE_TAG;

/// What every guest is configured with: its name and CPUs, the time, random bytes of the host's, and
/// the share.
///
/// # Errors
/// [`Error::Failed`] if the host gives no random bytes.
pub fn configuration(hostname: &str, online_cpus: u32) -> Result<sandbox::ConfigureRequest, Error> {
    let mut entropy = vec![0; 64];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut entropy))
        .map_err(|error| Error::failed("reading random bytes", &error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(sandbox::ConfigureRequest {
        hostname: hostname.to_owned(),
        clock_unix_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        entropy,
        share_tag: SHARE_TAG.to_owned(),
        online_cpus,
        ..Default::default()
    })
}

impl Guest {
    /// Closes the connection, and waits until the guest's end is closed as well.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the guest does not close it.
    pub async fn close(self) -> Result<(), Error> {
        let spent = self.patience.limit(ASK, self.wire.close()).await;
        let late = spent.in_words();
        let late = || Error::Unavailable(format!("the guest has kept its connection for {late}"));
        spent.outcome.ok_or_else(late)
    }

    /// Runs and deletes one container of the guest's own, before the machine is saved.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn warm(&self) -> Result<(), Error> {
        let client = SandboxClient::new(self.client.clone());
        let empty = types::Empty::new();
        let call = client.warm(Context::default(), &empty);
        self.call(WORK, "warming the guest", call).await.map(drop)
    }

    /// Gives the guest its identity, clock, entropy and share.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn configure(&self, request: &sandbox::ConfigureRequest) -> Result<(), Error> {
        let client = SandboxClient::new(self.client.clone());
        let call = client.configure(Context::default(), request);
        self.call(WORK, "configuring the guest", call).await.map(drop)
    }

    /// Lets all containers use so many bytes of memory together.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn limit_memory(&self, bytes: u64) -> Result<(), Error> {
        let client = SandboxClient::new(self.client.clone());
        let request = sandbox::ResizeRequest { memory_limit_bytes: bytes, ..Default::default() };
        let call = client.resize(Context::default(), &request);
        self.call(WORK, "limiting the pod's memory", call).await.map(drop)
    }

    /// Asks the agent whether it lives; waits for as long as the connection lasts.
    ///
    /// # Errors
    /// [`Error::Disconnected`] when the connection is broken.
    pub async fn check(&self) -> Result<(), Error> {
        let client = HealthClient::new(self.client.clone());
        let answer = client.check(Context::default(), &health::CheckRequest::new()).await;
        answer.map(drop).map_err(|error| explain("asking whether the guest lives", error))
    }

    /// Asks the guest to flush its disks and power off, for at most `limit`.
    ///
    /// # Errors
    /// What the agent answered; the connection usually breaks first.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), Error> {
        let client = SandboxClient::new(self.client.clone());
        let empty = types::Empty::new();
        let call = client.shutdown(Context::default(), &empty);
        self.call(limit, "shutting the guest down", call).await.map(drop)
    }
}
