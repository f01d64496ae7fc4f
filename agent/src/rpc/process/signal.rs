//! Process.Signal.

use agent_api::process::SignalRequest;

use crate::error::{Error, Result};
use crate::sandbox::Sandbox;

/// `SIGRTMAX` of the kernel.
const MAX_SIGNAL: i32 = 64;

pub(super) fn run(sandbox: &Sandbox, request: &SignalRequest) -> Result<()> {
    let signal = i32::try_from(request.signal)
        .ok()
        .filter(|signal| *signal <= MAX_SIGNAL)
        .ok_or_else(|| Error::Invalid(format!("signal {}: not 0 to 64", request.signal)))?;
    let container = sandbox.container(&request.container_id)?;
    if !request.all {
        return container.process(&request.exec_id)?.signal(signal);
    }
    if !request.exec_id.is_empty() {
        return Err(Error::Invalid("all processes of an exec cannot be told apart".to_owned()));
    }
    container.signal_all(signal)
}
