//! Sandbox: the guest as a whole.

mod configure;
mod shutdown;

use agent_api::sandbox::{ConfigureRequest, SetClockRequest};
use agent_api::sandbox_ttrpc::Sandbox;
use agent_api::types::Empty;
use async_trait::async_trait;
use ttrpc::r#async::TtrpcContext;

use super::{blocking, done, status};
use crate::clock;
use crate::error::Error;

/// The service.
#[derive(Debug)]
pub(super) struct SandboxService;

#[async_trait]
impl Sandbox for SandboxService {
    async fn configure(&self, _: &TtrpcContext, request: ConfigureRequest) -> ttrpc::Result<Empty> {
        blocking(move || configure::run(&request)).await.map(done)
    }

    async fn set_clock(&self, _: &TtrpcContext, request: SetClockRequest) -> ttrpc::Result<Empty> {
        clock::step(request.clock_unix_ns)
            .map_err(Error::io("set the clock"))
            .map_err(status::of)
            .map(done)
    }

    async fn shutdown(&self, _: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        blocking(shutdown::run).await.map(done)
    }
}
