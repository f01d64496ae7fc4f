//! The way to the guest's agent: its ttrpc services and its process streams, both over the
//! Unix socket that leads to the guest's vsock ports.

mod dial;
mod identity;
mod life;
mod network;
mod storage;
mod streams;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_api::container_ttrpc::ContainerClient;
use agent_api::process_ttrpc::ProcessClient;
use agent_api::types::{ContainerId as RpcContainer, ProcessId};
use agent_api::{container, process};
use api::request::Target;
use api::usage::Usage;
use api::{ContainerId, Error, User};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use ttrpc::r#async::Client;
use ttrpc::context::Context;
use ttrpc::{Code, Error as RpcError};

use crate::patience::Patience;
use crate::text::guest_text;
use dial::dial;
use wire::Wire;

pub use life::configuration;
pub use storage::{GuestDirectory, GuestDisk, GuestMount};
pub use streams::StreamIds;

/// Deadline of a call that does work in the guest; emulated guests are 30 times slower.
const WORK: Duration = Duration::from_secs(60);

/// Deadline of a call that only asks.
const ASK: Duration = Duration::from_secs(10);

/// Largest exit status, by wait(2).
const MAX_STATUS: u32 = 255;

/// A connection to the agent; cheap to clone.
#[derive(Clone)]
pub struct Guest {
    vsock: PathBuf,
    client: Client,
    wire: Wire,
    streams: Arc<AtomicU64>,
    patience: Patience,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("vsock", &self.vsock).finish_non_exhaustive()
    }
}

impl Guest {
    /// Connects to the agent behind the socket `vsock`, whose machine is waited for with `patience`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nobody answers.
    pub async fn connect(vsock: &Path, patience: Patience) -> Result<Self, Error> {
        let stream = dial(vsock, agent_api::RPC_PORT, &patience).await?;
        let (client, wire) = wire::client(stream);
        Ok(Self {
            vsock: vsock.to_owned(),
            client,
            wire,
            streams: Arc::new(AtomicU64::new(1)),
            patience,
        })
    }

    /// A number for a process's stream that no other stream of this guest has.
    pub fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens the guest's end of the stream `id`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the guest does not take it.
    pub async fn stream(&self, id: u64) -> Result<UnixStream, Error> {
        let mut stream = dial(&self.vsock, agent_api::STREAM_PORT, &self.patience).await?;
        let sent = stream.write_all(&id.to_le_bytes()).await;
        sent.map_err(|error| {
            Error::Unavailable(format!("opening a process's stream in the guest: {error}"))
        })?;
        Ok(stream)
    }

    /// Prepares a container, whose own hooks in the guest may take `hooks` in all. Returns who its
    /// process is, if the guest says so.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn create(
        &self,
        id: &ContainerId,
        spec: &serde_json::Value,
        ids: StreamIds,
        hooks: Duration,
    ) -> Result<Option<User>, Error> {
        let request = container::CreateContainerRequest {
            container_id: id.to_string(),
            spec_json: spec.to_string().into_bytes(),
            streams: Some(ids.into()).into(),
            ..Default::default()
        };
        let call = async { self.containers().create(Context::default(), &request).await };
        let doing = "creating the container in the guest";
        let created = self.call(WORK + hooks, doing, call).await?;
        created.user.into_option().map(|user| identity::told(doing, user)).transpose()
    }

    /// Frees a container; one that the guest does not have is free.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn delete(&self, id: &ContainerId) -> Result<(), Error> {
        let call = async {
            match self.containers().delete(Context::default(), &named(id)).await {
                Err(RpcError::RpcStatus(status)) if status.code() == Code::NOT_FOUND => Ok(()),
                answer => answer.map(drop),
            }
        };
        self.call(WORK, "deleting the container in the guest", call).await
    }

    /// Lets all processes of a container stand still.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        let call = async { self.containers().pause(Context::default(), &named(id)).await };
        self.call(WORK, "pausing the container", call).await.map(drop)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn resume(&self, id: &ContainerId) -> Result<(), Error> {
        let call = async { self.containers().resume(Context::default(), &named(id)).await };
        self.call(WORK, "resuming the container", call).await.map(drop)
    }

    /// Applies OCI resources.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn update(
        &self,
        id: &ContainerId,
        resources: &serde_json::Value,
    ) -> Result<(), Error> {
        let request = container::UpdateContainerRequest {
            container_id: id.to_string(),
            resources_json: resources.to_string().into_bytes(),
            ..Default::default()
        };
        let call = async { self.containers().update(Context::default(), &request).await };
        self.call(WORK, "updating the container's resources", call).await.map(drop)
    }

    /// Reads what a container uses.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn stats(&self, id: &ContainerId) -> Result<Usage, Error> {
        self.usage(&named(id)).await
    }

    /// Reads what all containers together use.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn pod_stats(&self) -> Result<Usage, Error> {
        self.usage(&RpcContainer::default()).await
    }

    async fn usage(&self, of: &RpcContainer) -> Result<Usage, Error> {
        let call = async { self.containers().stats(Context::default(), of).await };
        Ok(Usage::from(&self.call(ASK, "reading metrics", call).await?.files))
    }

    /// Blocks until more than `seen` processes of a container were killed for want of memory;
    /// none: the container is gone.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn wait_oom(&self, id: &ContainerId, seen: u64) -> Result<Option<u64>, Error> {
        let container_id = id.to_string();
        let request = container::WaitOomRequest { container_id, seen, ..Default::default() };
        let answer = self.containers().wait_oom(Context::default(), &request).await;
        let answer = answer.map_err(|error| explain("watching for want of memory", error))?;
        Ok((!answer.ended || answer.count > seen).then_some(answer.count))
    }

    /// Registers an additional process.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn exec(
        &self,
        target: &Target,
        oci: &serde_json::Value,
        ids: StreamIds,
    ) -> Result<(), Error> {
        let request = process::ExecRequest {
            container_id: target.container.to_string(),
            exec_id: exec_id(target),
            process_json: oci.to_string().into_bytes(),
            streams: Some(ids.into()).into(),
            ..Default::default()
        };
        let call = async { self.processes().exec(Context::default(), &request).await };
        self.call(WORK, "registering the process in the guest", call).await.map(drop)
    }

    /// Starts a process.
    ///
    /// # Errors
    /// What the agent answered, for instance that there is no such executable.
    pub async fn start(&self, target: &Target) -> Result<(), Error> {
        let call = async { self.processes().start(Context::default(), &process_id(target)).await };
        self.call(WORK, "starting the process in the guest", call).await.map(drop)
    }

    /// Signals a process, or with `all` every process of its container.
    ///
    /// # Errors
    /// [`Error::Exited`] when it is gone; otherwise what the agent answered.
    pub async fn signal(&self, target: &Target, signal: u32, all: bool) -> Result<(), Error> {
        let request = process::SignalRequest {
            container_id: target.container.to_string(),
            exec_id: exec_id(target),
            signal,
            all,
            ..Default::default()
        };
        let call = async {
            match self.processes().signal(Context::default(), &request).await {
                Err(RpcError::RpcStatus(status)) if status.code() == Code::NOT_FOUND => Ok(false),
                answer => answer.map(|_| true),
            }
        };
        let found = self.call(WORK, "signalling the process", call).await?;
        if found { Ok(()) } else { Err(Error::Exited(target.name().to_owned())) }
    }

    /// Blocks until a process has exited; returns its exit status.
    ///
    /// # Errors
    /// What the agent answered, or [`Error::Disconnected`].
    pub async fn wait(&self, target: &Target) -> Result<u32, Error> {
        let answer = self.processes().wait(Context::default(), &process_id(target)).await;
        let answer = answer.map_err(|error| explain("waiting for the process", error))?;
        Ok(answer.exit_status.min(MAX_STATUS))
    }

    /// Sets the size of a process's terminal.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn resize(&self, target: &Target, size: (u32, u32)) -> Result<(), Error> {
        let request = process::ResizePtyRequest {
            container_id: target.container.to_string(),
            exec_id: exec_id(target),
            columns: size.0,
            rows: size.1,
            ..Default::default()
        };
        let call = async { self.processes().resize_pty(Context::default(), &request).await };
        self.call(ASK, "resizing the terminal", call).await.map(drop)
    }

    /// Forgets an exec.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn delete_process(&self, target: &Target) -> Result<(), Error> {
        let call = async { self.processes().delete(Context::default(), &process_id(target)).await };
        self.call(WORK, "deleting the process in the guest", call).await.map(drop)
    }

    /// Waits for the answer to a call, no longer than `limit` of the time that the guest had.
    async fn call<T>(
        &self,
        limit: Duration,
        doing: &str,
        call: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, Error> {
        let spent = self.patience.limit(limit, call).await;
        let late = spent.in_words();
        match spent.outcome {
            Some(answer) => answer.map_err(|error| explain(doing, error)),
            None => {
                Err(Error::Unavailable(format!("{doing}: the guest has not answered for {late}")))
            }
        }
    }

    fn containers(&self) -> ContainerClient {
        ContainerClient::new(self.client.clone())
    }

    fn processes(&self) -> ProcessClient {
        ProcessClient::new(self.client.clone())
    }
}

fn named(id: &ContainerId) -> RpcContainer {
    RpcContainer { container_id: id.to_string(), ..Default::default() }
}

fn exec_id(target: &Target) -> String {
    target.exec.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn process_id(target: &Target) -> ProcessId {
    let container_id = target.container.to_string();
    ProcessId { container_id, exec_id: exec_id(target), ..Default::default() }
}

/// How ttrpc's error begins when a call was made after the connection had broken: it has no kind
/// of its own.
const BROKEN: &str = "reserve channel capacity failed";

/// What became of a call, as an error of the sandbox. The agent's "not found" means that the two
/// sides disagree, which must not reach a caller as "your container is gone".
fn explain(doing: &str, error: RpcError) -> Error {
    let status = match error {
        RpcError::RpcStatus(status) => status,
        RpcError::Others(text) if text.starts_with(BROKEN) => {
            let text = format!("{doing}: the connection to the guest broke before");
            return Error::Disconnected(text);
        }
        // The answer is none of the protocol's.
        RpcError::Others(text) => return Error::Failed(format!("{doing}: {}", guest_text(&text))),
        broken => {
            let text = format!("{doing}: the connection to the guest broke: {broken}");
            return Error::Disconnected(text);
        }
    };
    let text = format!("{doing}: {}", guest_text(status.message()));
    match status.code() {
        Code::INVALID_ARGUMENT => Error::Invalid(text),
        Code::FAILED_PRECONDITION => Error::State(text),
        Code::DEADLINE_EXCEEDED => Error::Unavailable(text),
        _ => Error::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_on_a_connection_that_broke_before_are_told_as_such() {
        let (host, guest) = tokio::net::UnixStream::pair().unwrap();
        drop(guest);
        let client = Client::new(ttrpc::r#async::transport::Socket::new(host));
        let containers = ContainerClient::new(client);
        // The first may be the one that finds out.
        for _ in 0..3 {
            let request = named(&ContainerId::new("c").unwrap());
            let answer = containers.resume(Context::default(), &request).await;
            let error = explain("resuming", answer.unwrap_err());
            assert!(matches!(error, Error::Disconnected(_)), "{error}");
        }
    }

    #[test]
    fn not_found_in_the_guest_is_no_not_found_of_the_sandbox() {
        let status = ttrpc::get_status(Code::NOT_FOUND, "executable not found: /x");
        let error = explain("starting", RpcError::RpcStatus(status));
        assert_eq!(error, Error::Failed("starting: executable not found: /x".into()));
    }
}
