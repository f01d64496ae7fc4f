//! The Sandbox service of a pod's shim, asked directly and beside containerd.

use std::path::PathBuf;

use containerd_shim_protos::cgroups_v2::metrics::Metrics;
use containerd_shim_protos::sandbox_api::{CreateSandboxRequest, SandboxMetricsRequest};
use containerd_shim_protos::sandbox_async::SandboxClient;
use prost::Message as _;
use protobuf::Message as _;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::{Code, Status};
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::Context;

use super::{Daemon, Pod, api};

/// A connection to the shim of one pod with [`super::Controller::Shim`].
pub struct SandboxService {
    runtime: Runtime,
    client: SandboxClient,
    id: String,
}

impl std::fmt::Debug for SandboxService {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SandboxService").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SandboxService {
    /// Connects by the address that the shim has left in the pod's bundle.
    ///
    /// # Panics
    /// When there is none, or nobody there.
    pub fn of(daemon: &Daemon, pod: &Pod) -> Self {
        let address = std::fs::read_to_string(daemon.bundle(pod).join("address")).unwrap();
        let path = PathBuf::from(address.trim().strip_prefix("unix://").unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime
            .block_on(async { Client::new(Socket::new(UnixStream::connect(path).await.unwrap())) });
        Self { runtime, client: SandboxClient::new(client), id: pod.id.clone() }
    }

    /// CreateSandbox, once more for the same pod.
    ///
    /// # Errors
    /// The shim's.
    pub fn create(&self, config: &api::PodSandboxConfig) -> Result<(), Status> {
        let mut request =
            CreateSandboxRequest { sandbox_id: self.id.clone(), ..CreateSandboxRequest::default() };
        request.options.mut_or_insert_default().value = config.encode_to_vec();
        let call = self.client.create_sandbox(Context::default(), &request);
        self.runtime.block_on(call).map(drop).map_err(status)
    }

    /// SandboxMetrics.
    ///
    /// # Errors
    /// The shim's.
    ///
    /// # Panics
    /// When the answer is about another pod, or not of a type that containerd knows.
    pub fn metrics(&self) -> Result<Metrics, Status> {
        let sandbox_id = self.id.clone();
        let request = SandboxMetricsRequest { sandbox_id, ..SandboxMetricsRequest::default() };
        let call = self.client.sandbox_metrics(Context::default(), &request);
        let metric = self.runtime.block_on(call).map_err(status)?.metrics.unwrap();
        assert_eq!(metric.id, self.id);
        assert_eq!(metric.data.type_url, "io.containerd.cgroups.v2.Metrics");
        Ok(Metrics::parse_from_bytes(&metric.data.value).unwrap())
    }
}

/// The codes are gRPC's.
fn status(error: ttrpc::Error) -> Status {
    match error {
        ttrpc::Error::RpcStatus(status) => {
            Status::new(Code::from_i32(status.code.value()), status.message)
        }
        other => Status::unavailable(other.to_string()),
    }
}
