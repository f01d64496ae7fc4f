//! Attach: an address at which a client has the streams of a container's own process. A container
//! that was only created can be attached to. Output that comes after this answer waits for the
//! client, so nothing of it is missed.

use std::sync::Arc;

use protocol::cri::{AttachRequest, AttachResponse, ContainerState};
use streaming::Wanted;
use tonic::Request;

use crate::fault::Fault;
use crate::pods::Pods;
use crate::sessions;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<AttachRequest>,
) -> Result<AttachResponse, Fault> {
    let AttachRequest { container_id, stdin, tty, stdout, stderr } = request.into_inner();
    let now = pods.node.records.now();
    let row = now.container(&container_id)?;
    if row.state() == ContainerState::ContainerExited {
        return Err(Fault::FailedPrecondition(format!("container {} has ended", row.id)));
    }
    let config = row.config.clone().unwrap_or_default();
    if tty != config.tty {
        let has = if config.tty { "has" } else { "has not" };
        let text = format!("container {} {has} a terminal, so tty must say so", row.id);
        return Err(Fault::InvalidArgument(text));
    }
    // A container without input has none to write to.
    let stdin = stdin && config.stdin;
    let wanted = Wanted { stdin, stdout, stderr, terminal: tty };
    let pod = pods.get(&row.pod)?;
    let session = sessions::attach(&pod, &row.id, wanted, config.stdin_once).await?;
    Ok(AttachResponse { url: pods.node.url(session)? })
}
