//! The services of agent-api, one file per verb. Each verb does its checks, calls the domain
//! and maps its errors to status codes; there is no state here.

mod health;
mod status;

use std::collections::HashMap;
use std::sync::Arc;

use agent_api::health_ttrpc;
use ttrpc::r#async::Service;

use crate::sandbox::Sandbox;

/// Every service, to be registered with a server.
pub(crate) fn services(_sandbox: &Arc<Sandbox>) -> Vec<HashMap<String, Service>> {
    vec![health_ttrpc::create_health(Arc::new(health::HealthService))]
}
