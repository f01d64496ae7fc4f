//! Container.Stats.

use agent_api::container::StatsResponse;
use agent_api::types::ContainerId;

use crate::cgroup;
use crate::error::Result;
use crate::sandbox::Sandbox;

pub(super) fn run(sandbox: &Sandbox, request: &ContainerId) -> Result<StatsResponse> {
    let files = if request.container_id.is_empty() {
        cgroup::read_all(&cgroup::pod())
    } else {
        cgroup::read_all(sandbox.container(&request.container_id)?.cgroup().path())
    };
    Ok(StatsResponse { files, ..StatsResponse::default() })
}
