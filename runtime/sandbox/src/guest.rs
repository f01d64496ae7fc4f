//! The way to the guest's agent: its ttrpc services and its process streams, both over the
//! Unix socket that leads to the guest's vsock ports.

mod dial;
mod network;
mod storage;
mod streams;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_api::container_ttrpc::ContainerClient;
use agent_api::health_ttrpc::HealthClient;
use agent_api::process_ttrpc::ProcessClient;
use agent_api::sandbox_ttrpc::SandboxClient;
use agent_api::types::{ContainerId as RpcContainer, ProcessId};
use agent_api::{container, health, process, sandbox, types};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use ttrpc::r#async::Client;
use ttrpc::context::{self, Context};
use ttrpc::{Code, Error as RpcError};

use crate::request::Target;
use crate::usage::Files;
use crate::{ContainerId, Error};
use dial::dial;

pub use storage::{GuestDirectory, GuestDisk, GuestMount};
pub use streams::StreamIds;

/// Deadline of a call that does work in the guest; emulated guests are 30 times slower.
const WORK: Duration = Duration::from_secs(60);

/// Deadline of a call that only asks.
const ASK: Duration = Duration::from_secs(10);

/// A connection to the agent; cheap to clone.
#[derive(Clone)]
pub struct Guest {
    vsock: PathBuf,
    client: Client,
    streams: Arc<AtomicU64>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("vsock", &self.vsock).finish_non_exhaustive()
    }
}

impl Guest {
    /// Connects to the agent behind the socket `vsock`.
    ///
    /// # Errors
    /// [`Error::Failed`] when nobody answers.
    pub async fn connect(vsock: &Path) -> Result<Self, Error> {
        let stream = dial(vsock, agent_api::RPC_PORT).await?;
        Ok(Self {
            vsock: vsock.to_owned(),
            client: wire::client(stream),
            streams: Arc::new(AtomicU64::new(1)),
        })
    }

    /// A number for a process's stream that no other stream of this guest has.
    pub fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens the guest's end of the stream `id`.
    ///
    /// # Errors
    /// [`Error::Failed`] when the guest does not take it.
    pub async fn stream(&self, id: u64) -> Result<UnixStream, Error> {
        let mut stream = dial(&self.vsock, agent_api::STREAM_PORT).await?;
        let sent = stream.write_all(&id.to_le_bytes()).await;
        sent.map_err(|error| Error::failed("opening a process's stream", &error))?;
        Ok(stream)
    }

    /// Gives the guest its identity, clock, entropy and share.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn configure(&self, request: &sandbox::ConfigureRequest) -> Result<(), Error> {
        let client = SandboxClient::new(self.client.clone());
        let answer = client.configure(within(WORK), request).await;
        answer.map(drop).map_err(|error| explain("configuring the guest", error))
    }

    /// Asks the agent whether it lives; waits for as long as the connection lasts.
    ///
    /// # Errors
    /// [`Error::Failed`] when the connection is broken.
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
        let answer = client.shutdown(within(limit), &types::Empty::new()).await;
        answer.map(drop).map_err(|error| explain("shutting the guest down", error))
    }

    /// Prepares a container, whose own hooks in the guest may take `hooks` in all.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn create(
        &self,
        id: &ContainerId,
        spec: &serde_json::Value,
        ids: StreamIds,
        hooks: Duration,
    ) -> Result<(), Error> {
        let request = container::CreateContainerRequest {
            container_id: id.to_string(),
            spec_json: spec.to_string().into_bytes(),
            streams: Some(ids.into()).into(),
            ..Default::default()
        };
        let answer = self.containers().create(within(WORK + hooks), &request).await;
        answer.map(drop).map_err(|error| explain("creating the container in the guest", error))
    }

    /// Frees a container; one that the guest does not have is free.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn delete(&self, id: &ContainerId) -> Result<(), Error> {
        let answer = match self.containers().delete(within(WORK), &named(id)).await {
            Err(RpcError::RpcStatus(status)) if status.code() == Code::NOT_FOUND => return Ok(()),
            answer => answer,
        };
        answer.map(drop).map_err(|error| explain("deleting the container in the guest", error))
    }

    /// Lets all processes of a container stand still.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), Error> {
        let answer = self.containers().pause(within(WORK), &named(id)).await;
        answer.map(drop).map_err(|error| explain("pausing the container", error))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn resume(&self, id: &ContainerId) -> Result<(), Error> {
        let answer = self.containers().resume(within(WORK), &named(id)).await;
        answer.map(drop).map_err(|error| explain("resuming the container", error))
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
        let answer = self.containers().update(within(WORK), &request).await;
        answer.map(drop).map_err(|error| explain("updating the container's resources", error))
    }

    /// Reads a container's cgroup files.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn stats(&self, id: &ContainerId) -> Result<Files, Error> {
        self.files(&named(id)).await
    }

    /// Reads the cgroup files of all containers together.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn pod_stats(&self) -> Result<Files, Error> {
        self.files(&RpcContainer::default()).await
    }

    async fn files(&self, of: &RpcContainer) -> Result<Files, Error> {
        let answer = self.containers().stats(within(ASK), of).await;
        let answer = answer.map_err(|error| explain("reading metrics", error))?;
        Ok(answer.files)
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
        let answer = self.processes().exec(within(WORK), &request).await;
        answer.map(drop).map_err(|error| explain("registering the process in the guest", error))
    }

    /// Starts a process.
    ///
    /// # Errors
    /// What the agent answered, for instance that there is no such executable.
    pub async fn start(&self, target: &Target) -> Result<(), Error> {
        let answer = self.processes().start(within(WORK), &process_id(target)).await;
        answer.map(drop).map_err(|error| explain("starting the process in the guest", error))
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
        match self.processes().signal(within(WORK), &request).await {
            Ok(_) => Ok(()),
            Err(RpcError::RpcStatus(status)) if status.code() == Code::NOT_FOUND => {
                Err(Error::Exited(target.name().to_owned()))
            }
            Err(error) => Err(explain("signalling the process", error)),
        }
    }

    /// Blocks until a process has exited; returns its exit status.
    ///
    /// # Errors
    /// What the agent answered, or that the connection broke.
    pub async fn wait(&self, target: &Target) -> Result<u32, RpcError> {
        let answer = self.processes().wait(Context::default(), &process_id(target)).await?;
        Ok(answer.exit_status)
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
        let answer = self.processes().resize_pty(within(ASK), &request).await;
        answer.map(drop).map_err(|error| explain("resizing the terminal", error))
    }

    /// Forgets an exec.
    ///
    /// # Errors
    /// What the agent answered.
    pub async fn delete_process(&self, target: &Target) -> Result<(), Error> {
        let answer = self.processes().delete(within(WORK), &process_id(target)).await;
        answer.map(drop).map_err(|error| explain("deleting the process in the guest", error))
    }

    fn containers(&self) -> ContainerClient {
        ContainerClient::new(self.client.clone())
    }

    fn processes(&self) -> ProcessClient {
        ProcessClient::new(self.client.clone())
    }
}

fn within(limit: Duration) -> Context {
    context::with_duration(limit)
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

/// The agent's answer as an error of the sandbox. The agent's "not found" means that the two
/// sides disagree, which must not reach a caller as "your container is gone".
fn explain(doing: &str, error: RpcError) -> Error {
    let RpcError::RpcStatus(status) = error else {
        return Error::failed(doing, &error);
    };
    let text = format!("{doing}: {}", status.message());
    match status.code() {
        Code::INVALID_ARGUMENT => Error::Invalid(text),
        Code::FAILED_PRECONDITION => Error::State(text),
        Code::DEADLINE_EXCEEDED => Error::Deadline(text),
        _ => Error::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_in_the_guest_is_no_not_found_of_the_sandbox() {
        let status = ttrpc::get_status(Code::NOT_FOUND, "executable not found: /x");
        let error = explain("starting", RpcError::RpcStatus(status));
        assert_eq!(error, Error::Failed("starting: executable not found: /x".into()));
    }
}
