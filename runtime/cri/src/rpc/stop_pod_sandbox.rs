//! StopPodSandbox: ends a pod's containers, its machine and its network. A pod that is not there has
//! none.

use std::sync::Arc;

use protocol::cri::{StopPodSandboxRequest, StopPodSandboxResponse};
use tonic::Request;

use super::there;
use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<StopPodSandboxRequest>,
) -> Result<StopPodSandboxResponse, Fault> {
    let now = pods.node.records.now();
    if let Some(row) = there(now.pod(&request.get_ref().pod_sandbox_id))? {
        pods.get(&row.id)?.ask(Ask::StopPod).await?;
    }
    Ok(StopPodSandboxResponse {})
}
