//! Health: whether the agent lives and what it is.

use agent_api::health::{CheckRequest, CheckResponse};
use agent_api::health_ttrpc::Health;
use async_trait::async_trait;
use ttrpc::r#async::TtrpcContext;

/// Answers from the runtime's own thread: an answer proves that it is not stuck.
#[derive(Debug)]
pub(super) struct HealthService;

#[async_trait]
impl Health for HealthService {
    async fn check(&self, _: &TtrpcContext, _: CheckRequest) -> ttrpc::Result<CheckResponse> {
        let kernel_release = rustix::system::uname().release().to_string_lossy().into_owned();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(CheckResponse { version, kernel_release, ..CheckResponse::default() })
    }
}
