//! RunPodSandbox: makes a pod.

use std::sync::Arc;

use protocol::cri::{RunPodSandboxRequest, RunPodSandboxResponse};
use tonic::Request;

use crate::bounds;
use crate::caller;
use crate::fault::Fault;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<RunPodSandboxRequest>,
) -> Result<RunPodSandboxResponse, Fault> {
    let deadline = caller::deadline(request.metadata());
    let RunPodSandboxRequest { config, runtime_handler } = request.into_inner();
    let config =
        config.ok_or_else(|| Fault::InvalidArgument("a pod without a configuration".into()))?;
    bounds::pod(&config)?;
    let pod_sandbox_id = pods.run_pod(config, &runtime_handler, deadline).await?;
    Ok(RunPodSandboxResponse { pod_sandbox_id })
}
