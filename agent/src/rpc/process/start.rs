//! Process.Start.

use std::sync::Arc;

use agent_api::types::{ProcessCreated, ProcessId};

use crate::error::Result;
use crate::sandbox::Sandbox;

pub(super) async fn run(sandbox: Arc<Sandbox>, request: ProcessId) -> Result<ProcessCreated> {
    let container = sandbox.container(&request.container_id)?;
    let pid = if request.exec_id.is_empty() {
        container.process("")?.start().await?
    } else {
        container.start_exec(&request.exec_id, sandbox.reaper(), sandbox.streams()).await?
    };
    Ok(ProcessCreated { pid: pid.unsigned_abs(), ..ProcessCreated::default() })
}
