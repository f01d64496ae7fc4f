//! Container.Stats.

use agent_api::container::StatsResponse;
use agent_api::types::ContainerId;

use crate::census;
use crate::cgroup;
use crate::error::{Error, Result};
use crate::sandbox::Sandbox;

pub(super) async fn run(sandbox: &Sandbox, request: &ContainerId) -> Result<StatsResponse> {
    if request.container_id.is_empty() {
        let files = cgroup::read_all(&cgroup::pod());
        return Ok(StatsResponse { files, ..StatsResponse::default() });
    }
    let container = sandbox.container(&request.container_id)?;
    // Its root file system may be the host's, which may be slow.
    let reading = tokio::task::spawn_blocking(move || {
        let mut files = cgroup::read_all(container.cgroup().path());
        files.insert(census::NAME.to_owned(), container.census());
        files
    });
    let files = reading.await.map_err(Error::io("count what the container uses"))?;
    Ok(StatsResponse { files, ..StatsResponse::default() })
}
