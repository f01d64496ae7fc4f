//! Process.Exec.

use agent_api::process::ExecRequest;

use crate::error::{Error, Result};
use crate::oci::Process;
use crate::sandbox::Sandbox;

pub(super) fn run(sandbox: &Sandbox, request: ExecRequest) -> Result<()> {
    let container = sandbox.container(&request.container_id)?;
    let process: Process = super::super::parse("process_json", &request.process_json)?;
    for line in process.left_out() {
        log::info!("exec {} of container {}: {line}", request.exec_id, request.container_id);
    }
    let streams = request.streams.into_option().unwrap_or_default();
    if process.terminal && streams.stderr != 0 {
        return Err(Error::Invalid("a terminal has no stderr stream".to_owned()));
    }
    container.add_exec(&request.exec_id, process, streams)
}
