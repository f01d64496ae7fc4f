//! PortForward: an address at which a client reaches ports of a pod's loopback.

use std::sync::Arc;

use protocol::cri::{PodSandboxState, PortForwardRequest, PortForwardResponse};
use tonic::Request;

use crate::fault::Fault;
use crate::pods::Pods;
use crate::sessions;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<PortForwardRequest>,
) -> Result<PortForwardResponse, Fault> {
    let PortForwardRequest { pod_sandbox_id, port } = request.into_inner();
    let now = pods.node.records.now();
    let row = now.pod(&pod_sandbox_id)?;
    if row.state() != PodSandboxState::SandboxReady {
        return Err(Fault::FailedPrecondition(format!("pod sandbox {} is not ready", row.id)));
    }
    let ports = port.into_iter().map(|port| {
        u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| Fault::InvalidArgument(format!("{port} is no port: 1 to 65535 are")))
    });
    let ports = ports.collect::<Result<_, _>>()?;
    let session = sessions::port_forward(&row.id, &row.netns, ports)?;
    Ok(PortForwardResponse { url: pods.node.url(session)? })
}
