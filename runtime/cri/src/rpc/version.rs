//! Version: who serves.

use std::sync::Arc;

use protocol::cri::{VersionRequest, VersionResponse};
use tonic::Request;

use crate::fault::Fault;
use crate::pods::Pods;

/// The first part of every container's id in a node's status: never to be changed.
pub(crate) const RUNTIME: &str = "cuddy";

pub(super) async fn run(
    _: &Arc<Pods>,
    _: Request<VersionRequest>,
) -> Result<VersionResponse, Fault> {
    Ok(VersionResponse {
        version: "0.1.0".to_owned(),
        runtime_name: RUNTIME.to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    })
}
