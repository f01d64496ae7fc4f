//! StopContainer: ends a container's process, by its signal first and by force after the grace. One
//! that is not there has ended. A pod that ends with its containers has ended with the last one when
//! this is answered.

use std::sync::Arc;
use std::time::Duration;

use protocol::cri::{StopContainerRequest, StopContainerResponse};
use tonic::Request;

use super::there;
use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pod::rest;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<StopContainerRequest>,
) -> Result<StopContainerResponse, Fault> {
    let StopContainerRequest { container_id, timeout } = request.into_inner();
    let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or_default());
    let now = pods.node.records.now();
    if let Some(row) = there(now.container(&container_id))? {
        let pod = pods.get(&row.pod)?;
        pod.ask(Ask::Stop(row.id.clone(), grace)).await?;
        rest::at_rest(&pod).await?;
    }
    Ok(StopContainerResponse {})
}
