//! The Sandbox service (`containerd.runtime.sandbox.v1`), for containerd's `sandboxer = "shim"`:
//! the pod is made, started, watched and ended without a sandbox container. Behind it is the same
//! pod as behind a sandbox container, by the sandbox's name.

mod update;

use std::collections::HashMap;
use std::time::Duration;

use api::request::Target;
use api::{Error, SandboxId};
use async_trait::async_trait;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
    PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
    SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest,
    StartSandboxResponse, StopSandboxRequest, StopSandboxResponse, WaitSandboxRequest,
    WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_async::Sandbox as SandboxRpc;
use protobuf::MessageField;
use sandbox::Sandbox;
use sandbox::container::{ProcessView, Status};
use sandbox::sandbox::Shutdown;
use ttrpc::Result as RpcResult;
use ttrpc::r#async::TtrpcContext;

use crate::convert;
use crate::error::status;
use crate::metrics;
use crate::pod_config;

/// Signal that ends a pod.
const SIGTERM: u32 = 15;

/// How long a stop may take for which the caller names no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service of one sandbox.
#[derive(Debug)]
pub(crate) struct SandboxService {
    sandbox: Sandbox,
    id: SandboxId,
}

impl SandboxService {
    /// Serves `sandbox`, whose name is `id`.
    pub(crate) fn new(sandbox: Sandbox, id: SandboxId) -> Self {
        Self { sandbox, id }
    }

    /// The pod, if it is the one that the caller names.
    fn pod(&self, named: &str) -> RpcResult<Target> {
        if named != self.id.as_str() {
            let id = named.to_owned();
            return Err(status(Error::NotFound { what: "sandbox", id }));
        }
        convert::target(named, "").map_err(status)
    }

    async fn view(&self, named: &str) -> RpcResult<ProcessView> {
        self.sandbox.view(self.pod(named)?).await.map_err(status)
    }

    /// Why a sandbox of another name can't be made: this process has its one, or is for that.
    async fn taken(&self, named: &str) -> ttrpc::Error {
        let own = self.id.as_str();
        match self.view(own).await {
            Ok(_) => status(Error::Exists { what: "sandbox", id: own.to_owned() }),
            Err(_) => status(Error::NotFound { what: "sandbox", id: named.to_owned() }),
        }
    }
}

#[async_trait]
impl SandboxRpc for SandboxService {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> RpcResult<CreateSandboxResponse> {
        let Ok(Target { container: id, .. }) = self.pod(&request.sandbox_id) else {
            return Err(self.taken(&request.sandbox_id).await);
        };
        let (pod, files) = pod_config::read(&request).map_err(status)?;
        self.sandbox.hold(id, pod, files).await.map_err(status)?;
        Ok(CreateSandboxResponse::default())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> RpcResult<StartSandboxResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        let pid = match self.sandbox.start_process(pod).await {
            Err(Error::NotFound { .. }) => {
                let text = format!("sandbox {:?} was not created", request.sandbox_id);
                return Err(status(Error::State(text)));
            }
            started => started.map_err(status)?,
        };
        let view = self.view(&request.sandbox_id).await?;
        let created_at = convert::timestamp(view.created).into();
        Ok(StartSandboxResponse { pid, created_at, ..StartSandboxResponse::default() })
    }

    async fn platform(
        &self,
        _: &TtrpcContext,
        request: PlatformRequest,
    ) -> RpcResult<PlatformResponse> {
        self.pod(&request.sandbox_id)?;
        let mut response = PlatformResponse::default();
        let platform = response.platform.mut_or_insert_default();
        platform.os = "linux".to_owned();
        platform.architecture = architecture(std::env::consts::ARCH).to_owned();
        Ok(response)
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> RpcResult<StopSandboxResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        match self.sandbox.kill(pod.clone(), SIGTERM, true).await {
            // It has stopped before.
            Ok(()) | Err(Error::Exited(_)) => {}
            Err(error) => return Err(status(error)),
        }
        let limit = match request.timeout_secs {
            0 => PATIENCE,
            seconds => Duration::from_secs(seconds.into()),
        };
        match tokio::time::timeout(limit, self.sandbox.wait(pod)).await {
            Ok(stopped) => stopped.map_err(status)?,
            Err(_) => {
                let text = format!("the sandbox has not stopped within {} s", limit.as_secs());
                return Err(status(Error::Deadline(text)));
            }
        };
        Ok(StopSandboxResponse::default())
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> RpcResult<WaitSandboxResponse> {
        let exit = self.sandbox.wait(self.pod(&request.sandbox_id)?).await.map_err(status)?;
        Ok(WaitSandboxResponse {
            exit_status: exit.status,
            exited_at: convert::timestamp(exit.at).into(),
            ..WaitSandboxResponse::default()
        })
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> RpcResult<SandboxStatusResponse> {
        let view = self.view(&request.sandbox_id).await?;
        let (state, exit) = match view.status {
            Status::Running | Status::Paused => ("SANDBOX_READY", None),
            Status::Created => ("SANDBOX_NOTREADY", None),
            Status::Stopped(exit) => ("SANDBOX_NOTREADY", Some(exit)),
        };
        let info = match request.verbose {
            true => info(&view, state, self.sandbox.end_reason().await.map_err(status)?),
            false => HashMap::new(),
        };
        Ok(SandboxStatusResponse {
            sandbox_id: request.sandbox_id,
            info,
            pid: view.pid,
            state: state.to_owned(),
            created_at: convert::timestamp(view.created).into(),
            exited_at: exit.and_then(|exit| convert::timestamp(exit.at)).into(),
            ..SandboxStatusResponse::default()
        })
    }

    async fn ping_sandbox(
        &self,
        _: &TtrpcContext,
        request: PingRequest,
    ) -> RpcResult<PingResponse> {
        self.view(&request.sandbox_id).await?;
        Ok(PingResponse::default())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> RpcResult<ShutdownSandboxResponse> {
        self.pod(&request.sandbox_id)?;
        self.sandbox.shutdown(Shutdown::Now).await.map_err(status)?;
        // Whoever asked may clean up by force once it is answered.
        self.sandbox.closed().await;
        Ok(ShutdownSandboxResponse::default())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> RpcResult<SandboxMetricsResponse> {
        self.view(&request.sandbox_id).await?;
        let usage = self.sandbox.pod_stats().await.map_err(status)?;
        let metrics = metrics::metrics(&usage);
        let any = convert::any("io.containerd.cgroups.v2.Metrics", &metrics).map_err(status)?;
        let mut response = SandboxMetricsResponse::default();
        let metric = response.metrics.mut_or_insert_default();
        metric.timestamp = convert::timestamp(std::time::SystemTime::now()).into();
        metric.id = request.sandbox_id;
        metric.data = MessageField::some(any);
        Ok(response)
    }
}

/// What is told of a sandbox to who wants to know more, which containerd hands on in CRI's
/// `PodSandboxStatus` (`crictl inspectp`). `reason` is why its machine is over (pure).
fn info(view: &ProcessView, state: &str, reason: Option<String>) -> HashMap<String, String> {
    let pid = ("pid", view.pid.to_string());
    let known = [pid, ("state", state.to_owned())].into_iter();
    let known = known.chain(reason.map(|reason| ("reason", reason)));
    known.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Go's name of an architecture, by which containerd knows it.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn reason_of_an_end_is_told_where_there_is_one() {
        let stdio = Default::default();
        let bundle = String::new();
        let status = Status::Created;
        let view = ProcessView { bundle, pid: 7, created: UNIX_EPOCH, status, stdio };
        let lives = info(&view, "SANDBOX_READY", None);
        assert_eq!((lives["pid"].as_str(), lives["state"].as_str()), ("7", "SANDBOX_READY"));
        assert!(!lives.contains_key("reason"));
        let over = info(&view, "SANDBOX_NOTREADY", Some("the guest kernel panicked".into()));
        assert_eq!(over["reason"], "the guest kernel panicked");
    }
}
