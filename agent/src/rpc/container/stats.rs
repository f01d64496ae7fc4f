//! Container.Stats.

use agent_api::container::StatsResponse;
use agent_api::types::ContainerId;

use crate::cgroup;
use crate::error::Result;
use crate::sandbox::Sandbox;

pub(super) fn run(sandbox: &Sandbox, request: &ContainerId) -> Result<StatsResponse> {
    let container = sandbox.container(&request.container_id)?;
    let files = cgroup::read_all(container.cgroup().path());
    Ok(StatsResponse { files, ..StatsResponse::default() })
}
