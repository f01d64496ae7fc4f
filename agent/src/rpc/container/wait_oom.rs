//! Container.WaitOom.

use agent_api::container::{WaitOomRequest, WaitOomResponse};

use crate::error::Result;
use crate::sandbox::Sandbox;

pub(super) async fn run(sandbox: &Sandbox, request: &WaitOomRequest) -> Result<WaitOomResponse> {
    let container = sandbox.container(&request.container_id)?;
    let mut deleted = container.watch_deletion();
    // Watched before it is read: no kill falls between.
    let changes = container.cgroup().watch_oom()?;
    drop(container);
    loop {
        let count = changes.oom_kills().unwrap_or(request.seen);
        let ended = *deleted.borrow();
        if count > request.seen || ended {
            return Ok(WaitOomResponse { count, ended, ..WaitOomResponse::default() });
        }
        tokio::select! {
            // An error means that the cgroup is going away; the deletion follows.
            Ok(()) = changes.next() => {}
            _ = deleted.wait_for(|deleted| *deleted) => {}
        }
    }
}
