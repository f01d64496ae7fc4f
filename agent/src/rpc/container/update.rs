//! Container.Update: limits only. As with runc, the devices that a container may use are settled
//! when it is made. The device rules of an update are left out: they are those of the caller's own
//! host.

use agent_api::container::UpdateContainerRequest;

use crate::error::Result;
use crate::oci::Resources;
use crate::sandbox::Sandbox;

pub(super) fn run(sandbox: &Sandbox, request: &UpdateContainerRequest) -> Result<()> {
    let container = sandbox.container(&request.container_id)?;
    let mut resources: Resources = super::super::parse("resources_json", &request.resources_json)?;
    for line in resources.left_out() {
        log::info!("container {}: {line}", request.container_id);
    }
    resources.devices = None;
    Ok(container.cgroup().apply(&resources)?)
}
