//! UpdateContainerResources: gives a container other limits.

use std::sync::Arc;

use protocol::cri::{UpdateContainerResourcesRequest, UpdateContainerResourcesResponse};
use tonic::Request;

use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pod::handle::NewLimits;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<UpdateContainerResourcesRequest>,
) -> Result<UpdateContainerResourcesResponse, Fault> {
    let UpdateContainerResourcesRequest { container_id, linux, annotations, .. } =
        request.into_inner();
    let now = pods.node.records.now();
    let row = now.container(&container_id)?;
    let Some(resources) = linux else { return Ok(UpdateContainerResourcesResponse {}) };
    let annotations = annotations.into_iter().collect();
    let limits = Box::new(NewLimits { resources, annotations });
    pods.get(&row.pod)?.ask(Ask::Update(row.id.clone(), limits)).await?;
    Ok(UpdateContainerResourcesResponse {})
}
