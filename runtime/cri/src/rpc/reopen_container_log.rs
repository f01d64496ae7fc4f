//! ReopenContainerLog: goes on in a new file at the log's path. The old one is complete then.

use std::sync::Arc;

use protocol::cri::{ContainerState, ReopenContainerLogRequest, ReopenContainerLogResponse};
use tonic::Request;

use crate::fault::Fault;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ReopenContainerLogRequest>,
) -> Result<ReopenContainerLogResponse, Fault> {
    let now = pods.node.records.now();
    let row = now.container(&request.get_ref().container_id)?;
    if row.state() != ContainerState::ContainerRunning {
        let text = format!("container {} does not run, so nothing writes its log", row.id);
        return Err(Fault::FailedPrecondition(text));
    }
    pods.get(&row.pod)?.site.reopen_log(&row.id).await?;
    Ok(ReopenContainerLogResponse {})
}
