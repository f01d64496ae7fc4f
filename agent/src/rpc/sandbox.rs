//! Sandbox: the guest as a whole.

mod configure;

use std::sync::{Mutex, PoisonError};

use agent_api::sandbox::ConfigureRequest;
use agent_api::sandbox_ttrpc::Sandbox;
use agent_api::types::Empty;
use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use ttrpc::r#async::TtrpcContext;

use super::{blocking, done, status};
use crate::{clock, power};

/// The service.
#[derive(Debug, Default)]
pub(super) struct SandboxService {
    /// What follows the host's clock, once that has set the guest's.
    following: Mutex<Option<AbortHandle>>,
}

#[async_trait]
impl Sandbox for SandboxService {
    async fn configure(&self, _: &TtrpcContext, request: ConfigureRequest) -> ttrpc::Result<Empty> {
        let configured = blocking(move || configure::run(&request)).await.map(done)?;
        let following = tokio::spawn(clock::follow()).abort_handle();
        let former =
            self.following.lock().unwrap_or_else(PoisonError::into_inner).replace(following);
        if let Some(former) = former {
            former.abort();
        }
        Ok(configured)
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
