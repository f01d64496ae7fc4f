//! Container.Create.

use std::sync::Arc;

use agent_api::container::CreateContainerRequest;
use agent_api::types::{ProcessCreated, User};

use crate::error::{Error, Result};
use crate::oci::Spec;
use crate::process::Created;
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
    let Created { pid, user } = sandbox.create(request.container_id, spec, streams).await?;
    let user = User {
        uid: user.uid(),
        gid: user.gid(),
        additional_gids: user.additional_gids().clone().unwrap_or_default(),
        ..User::default()
    };
    let (pid, user) = (pid.unsigned_abs(), Some(user).into());
    Ok(ProcessCreated { pid, user, ..ProcessCreated::default() })
}
