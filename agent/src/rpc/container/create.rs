//! Container.Create.

use std::sync::Arc;

use agent_api::container::CreateContainerRequest;
use agent_api::types::ProcessCreated;

use crate::error::{Error, Result};
use crate::oci::Spec;
use crate::sandbox::Sandbox;

pub(super) async fn run(
    sandbox: Arc<Sandbox>,
    request: CreateContainerRequest,
) -> Result<ProcessCreated> {
    let spec: Spec = super::super::parse("spec_json", &request.spec_json)?;
    let streams = request.streams.into_option().unwrap_or_default();
    if spec.process.as_ref().is_some_and(|process| process.terminal) && streams.stderr != 0 {
        return Err(Error::Invalid("a terminal has no stderr stream".to_owned()));
    }
    let pid = sandbox.create(request.container_id, spec, streams).await?;
    Ok(ProcessCreated { pid: pid.unsigned_abs(), ..ProcessCreated::default() })
}
