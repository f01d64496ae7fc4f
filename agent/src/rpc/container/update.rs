//! Container.Update.

use agent_api::container::UpdateContainerRequest;

use crate::error::Result;
use crate::oci::Resources;
use crate::sandbox::Sandbox;

pub(super) fn run(sandbox: &Sandbox, request: &UpdateContainerRequest) -> Result<()> {
    let container = sandbox.container(&request.container_id)?;
    let resources: Resources = super::super::parse("resources_json", &request.resources_json)?;
    Ok(container.cgroup().apply(&resources)?)
}
