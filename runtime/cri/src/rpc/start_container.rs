//! StartContainer: starts a container's process.

use std::sync::Arc;

use protocol::cri::{StartContainerRequest, StartContainerResponse};
use tonic::Request;

use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<StartContainerRequest>,
) -> Result<StartContainerResponse, Fault> {
    let now = pods.node.records.now();
    let row = now.container(&request.get_ref().container_id)?;
    pods.get(&row.pod)?.ask(Ask::Start(row.id.clone())).await?;
    Ok(StartContainerResponse {})
}
