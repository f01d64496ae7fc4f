//! Exec: an address at which a client runs a process in a container.

use std::sync::Arc;

use protocol::cri::{ContainerState, ExecRequest, ExecResponse};
use streaming::Wanted;
use tonic::Request;

use crate::fault::Fault;
use crate::pods::Pods;
use crate::sessions;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ExecRequest>,
) -> Result<ExecResponse, Fault> {
    let ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request.into_inner();
    let now = pods.node.records.now();
    let row = now.container(&container_id)?;
    if row.state() != ContainerState::ContainerRunning {
        return Err(Fault::FailedPrecondition(format!("container {} does not run", row.id)));
    }
    if cmd.is_empty() {
        return Err(Fault::InvalidArgument("nothing to execute: the command is empty".into()));
    }
    let wanted = Wanted { stdin, stdout, stderr, terminal: tty };
    let pod = pods.get(&row.pod)?;
    let session = sessions::exec(&pod.site, &row.id, cmd, wanted)?;
    Ok(ExecResponse { url: pods.node.url(session)? })
}
