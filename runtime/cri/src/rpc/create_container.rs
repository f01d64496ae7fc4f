//! CreateContainer: makes a container of a pod.

use std::sync::Arc;

use protocol::cri::{CreateContainerRequest, CreateContainerResponse};
use tonic::Request;

use crate::bounds;
use crate::fault::Fault;
use crate::pod::handle::Ask;
use crate::pod::handle::NewContainer;
use crate::pods::Pods;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<CreateContainerRequest>,
) -> Result<CreateContainerResponse, Fault> {
    let CreateContainerRequest { pod_sandbox_id, config, sandbox_config } = request.into_inner();
    let now = pods.node.records.now();
    let row = now.pod(&pod_sandbox_id)?;
    let missing = |what: &str| Fault::InvalidArgument(format!("a container without {what}"));
    let config = config.ok_or_else(|| missing("a configuration"))?;
    if config.metadata.as_ref().is_none_or(|metadata| metadata.name.is_empty()) {
        return Err(missing("a name in its metadata"));
    }
    let pod = sandbox_config.or_else(|| row.config.clone()).unwrap_or_default();
    bounds::container(&config)?;
    bounds::pod(&pod)?;
    let new = NewContainer { config, pod };
    let container_id = pods.get(&row.id)?.ask(Ask::Create(Box::new(new))).await?;
    Ok(CreateContainerResponse { container_id })
}
