//! RemovePodSandbox: removes a pod with its containers. A pod that is not there has been removed.

use std::sync::Arc;

use protocol::cri::{RemovePodSandboxRequest, RemovePodSandboxResponse};
use tonic::Request;

use super::there;
use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<RemovePodSandboxRequest>,
) -> Result<RemovePodSandboxResponse, Fault> {
    let now = pods.node.records.now();
    if let Some(row) = there(now.pod(&request.get_ref().pod_sandbox_id))? {
        pods.get(&row.id)?.ask(Ask::RemovePod).await?;
    }
    Ok(RemovePodSandboxResponse {})
}
