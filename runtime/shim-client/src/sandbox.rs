//! The Sandbox service of shims that make a pod without a container of its own: containerd's own
//! shims do not, ours does.

use std::collections::BTreeMap;
use std::time::Duration;

use api::SandboxId;
use api::events::Exit;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, SandboxMetricsRequest,
    SandboxMetricsResponse, SandboxStatusRequest, SandboxStatusResponse, ShutdownSandboxRequest,
    ShutdownSandboxResponse, StartSandboxRequest, StartSandboxResponse, StopSandboxRequest,
    StopSandboxResponse, WaitSandboxRequest, WaitSandboxResponse,
};
use protobuf::{Message, MessageField};
use protocol::update::{Known, UpdateSandboxRequest, UpdateSandboxResponse};

use crate::connection::Call;
use crate::convert;
use crate::error::Error;
use crate::limits::{ASK, WORK};
use crate::shim::Shim;
use crate::words::{Any, SandboxRequest, SandboxStarted, SandboxStatus};

const SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";

/// How the service says that a sandbox takes containers.
const READY: &str = "SANDBOX_READY";

/// A sandbox of a shim; cheap to clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    shim: Shim,
    id: SandboxId,
}

impl Shim {
    /// The calls for one sandbox of this shim, which need not exist yet.
    pub fn sandbox(&self, id: SandboxId) -> Sandbox {
        Sandbox { shim: self.clone(), id }
    }
}

impl Sandbox {
    /// Creates the sandbox.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn create(&self, request: &SandboxRequest) -> Result<(), Error> {
        let SandboxRequest { bundle, rootfs, options, network, annotations } = request;
        let message = CreateSandboxRequest {
            sandbox_id: self.id.to_string(),
            bundle_path: bundle.display().to_string(),
            rootfs: rootfs.iter().map(convert::rpc_mount).collect(),
            options: convert::rpc_option(options.as_ref()),
            netns_path: network.display().to_string(),
            annotations: annotations.clone().into_iter().collect(),
            ..CreateSandboxRequest::default()
        };
        let created = self.ask("CreateSandbox", "creating", WORK, &message);
        created.await.map(|_: CreateSandboxResponse| ())
    }

    /// Starts it.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn start(&self) -> Result<SandboxStarted, Error> {
        let sandbox_id = self.id.to_string();
        let message = StartSandboxRequest { sandbox_id, ..StartSandboxRequest::default() };
        let started: StartSandboxResponse =
            self.ask("StartSandbox", "starting", WORK, &message).await?;
        Ok(SandboxStarted { pid: started.pid, created_at: convert::time(&started.created_at) })
    }

    /// Stops it and all of its containers, within about `patience`.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn stop(&self, patience: Duration) -> Result<(), Error> {
        // None at all would mean the shim's own patience.
        let seconds = patience.as_secs() + u64::from(patience.subsec_nanos() > 0);
        let message = StopSandboxRequest {
            sandbox_id: self.id.to_string(),
            timeout_secs: u32::try_from(seconds.max(1)).unwrap_or(u32::MAX),
            ..StopSandboxRequest::default()
        };
        let stopped = self.ask("StopSandbox", "stopping", patience + ASK, &message);
        stopped.await.map(|_: StopSandboxResponse| ())
    }

    /// Waits until it has ended, without a limit.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn wait(&self) -> Result<Exit, Error> {
        let sandbox_id = self.id.to_string();
        let message = WaitSandboxRequest { sandbox_id, ..WaitSandboxRequest::default() };
        let doing = self.doing("waiting for");
        let call = Call { service: SERVICE, method: "WaitSandbox", doing: &doing };
        let exit: WaitSandboxResponse = self.shim.connection().call(call, &message, None).await?;
        Ok(convert::exit(exit.exit_status, &exit.exited_at))
    }

    /// Tells how it is, with `verbose` also for people.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn status(&self, verbose: bool) -> Result<SandboxStatus, Error> {
        let sandbox_id = self.id.to_string();
        let message = SandboxStatusRequest { sandbox_id, verbose, ..Default::default() };
        let status: SandboxStatusResponse =
            self.ask("SandboxStatus", "asking for the status of", ASK, &message).await?;
        Ok(SandboxStatus {
            pid: status.pid,
            ready: status.state == READY,
            created_at: convert::time(&status.created_at),
            exited_at: convert::time(&status.exited_at),
            info: status.info.into_iter().collect(),
        })
    }

    /// Tells the shim what is new of it, by names that caller and shim agree on.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn update(&self, news: &BTreeMap<String, Any>) -> Result<(), Error> {
        let extensions = news.iter().map(|(name, any)| (name.clone(), convert::rpc_any(any)));
        let known = Known { extensions: extensions.collect(), ..Known::default() };
        let message = UpdateSandboxRequest {
            sandbox_id: self.id.to_string(),
            sandbox: MessageField::some(known),
            fields: vec!["extensions".to_owned()],
            ..UpdateSandboxRequest::default()
        };
        let updated = self.ask("UpdateSandbox", "updating", WORK, &message);
        updated.await.map(|_: UpdateSandboxResponse| ())
    }

    /// Asks whether it lives.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn ping(&self) -> Result<(), Error> {
        let sandbox_id = self.id.to_string();
        let message = PingRequest { sandbox_id, ..PingRequest::default() };
        self.ask("PingSandbox", "asking for", ASK, &message).await.map(|_: PingResponse| ())
    }

    /// Removes it, and with it the shim; the answer or the connection's end means the same.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let sandbox_id = self.id.to_string();
        let message = ShutdownSandboxRequest { sandbox_id, ..ShutdownSandboxRequest::default() };
        match self.ask("ShutdownSandbox", "removing", WORK, &message).await {
            Err(Error::Disconnected(_)) => Ok(()),
            answer => answer.map(|_: ShutdownSandboxResponse| ()),
        }
    }

    /// Tells what it uses: `io.containerd.cgroups.v1.Metrics` or `….v2.Metrics`.
    ///
    /// # Errors
    /// What the shim answered.
    pub async fn metrics(&self) -> Result<Any, Error> {
        let sandbox_id = self.id.to_string();
        let message = SandboxMetricsRequest { sandbox_id, ..SandboxMetricsRequest::default() };
        let response: SandboxMetricsResponse =
            self.ask("SandboxMetrics", "reading the metrics of", ASK, &message).await?;
        let metric = response.metrics.into_option().unwrap_or_default();
        Ok(convert::any(metric.data.into_option().unwrap_or_default()))
    }

    fn doing(&self, doing: &str) -> String {
        format!("{doing} sandbox {:?}", self.id.as_str())
    }

    async fn ask<T: Message>(
        &self,
        method: &str,
        doing: &str,
        limit: Duration,
        message: &impl Message,
    ) -> Result<T, Error> {
        let doing = self.doing(doing);
        self.shim.ask(limit, Call { service: SERVICE, method, doing: &doing }, message).await
    }
}
