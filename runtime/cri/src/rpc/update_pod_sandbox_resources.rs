//! UpdatePodSandboxResources: gives a pod other limits. The kubelet asks before it changes the pod's
//! cgroup, so a refusal keeps everything as it was.

use std::sync::Arc;

use protocol::cri::{UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse};
use tonic::Request;

use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pod::handle::PodLimits;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<UpdatePodSandboxResourcesRequest>,
) -> Result<UpdatePodSandboxResourcesResponse, Fault> {
    let UpdatePodSandboxResourcesRequest { pod_sandbox_id, overhead, resources } =
        request.into_inner();
    let now = pods.node.records.now();
    let row = now.pod(&pod_sandbox_id)?;
    let limits = Box::new(PodLimits { resources, overhead });
    pods.get(&row.id)?.ask(Ask::Resize(limits)).await?;
    Ok(UpdatePodSandboxResourcesResponse {})
}
