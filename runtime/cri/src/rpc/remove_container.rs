//! RemoveContainer: removes a container, and kills it first if it runs. One that is not there has
//! been removed.

use std::sync::Arc;

use protocol::cri::{RemoveContainerRequest, RemoveContainerResponse};
use tonic::Request;

use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<RemoveContainerRequest>,
) -> Result<RemoveContainerResponse, Fault> {
    let now = pods.node.records.now();
    match now.container(&request.get_ref().container_id) {
        Err(Fault::NotFound(_)) => {}
        Err(fault) => return Err(fault),
        Ok(row) => {
            let pod = pods.get(&row.pod)?;
            pod.ask(Ask::Remove(row.id.clone())).await?;
        }
    }
    Ok(RemoveContainerResponse {})
}
