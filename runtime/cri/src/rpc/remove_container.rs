//! RemoveContainer: removes a container, and kills it first if it runs. One that is not there has
//! been removed.

use std::sync::Arc;

use protocol::cri::{RemoveContainerRequest, RemoveContainerResponse};
use tonic::Request;

use super::there;
use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<RemoveContainerRequest>,
) -> Result<RemoveContainerResponse, Fault> {
    let now = pods.node.records.now();
    if let Some(row) = there(now.container(&request.get_ref().container_id))? {
        pods.get(&row.pod)?.ask(Ask::Remove(row.id.clone())).await?;
    }
    Ok(RemoveContainerResponse {})
}
