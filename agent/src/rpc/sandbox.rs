//! Sandbox: the guest as a whole.

mod configure;

use std::sync::Arc;

use agent_api::sandbox::{ConfigureRequest, ResizeRequest};
use agent_api::sandbox_ttrpc::Sandbox as SandboxApi;
use agent_api::types::Empty;
use async_trait::async_trait;
use tokio::sync::oneshot;
use ttrpc::r#async::TtrpcContext;

use super::{done, status, to_the_end};
use crate::sandbox::Sandbox;
use crate::{cgroup, power, warm};

/// The service.
#[derive(Debug)]
pub(super) struct SandboxService(pub(super) Arc<Sandbox>);

#[async_trait]
impl SandboxApi for SandboxService {
    async fn configure(&self, _: &TtrpcContext, request: ConfigureRequest) -> ttrpc::Result<Empty> {
        to_the_end(configure::run(Arc::clone(&self.0), request)).await.map(done)
    }

    async fn warm(&self, _: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        to_the_end(warm::run(Arc::clone(&self.0))).await.map(done)
    }

    async fn resize(&self, _: &TtrpcContext, request: ResizeRequest) -> ttrpc::Result<Empty> {
        if request.memory_limit_bytes > 0 {
            cgroup::limit_pod(request.memory_limit_bytes).map_err(|e| status::of(e.into()))?;
        }
        Ok(done(()))
    }

    async fn shutdown(&self, _: &TtrpcContext, _: Empty) -> ttrpc::Result<Empty> {
        let (ended, end) = oneshot::channel();
        // Nothing keeps it waiting: all threads for blocking work may hang in flushes.
        std::thread::spawn(move || ended.send(power::off()));
        match end.await {
            Ok(result) => result.map_err(status::of).map(done),
            Err(gone) => Err(status::internal(&gone)),
        }
    }
}
