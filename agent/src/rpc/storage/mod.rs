//! Storage: devices that become filesystems.

use agent_api::storage::{AttachRequest, AttachResponse, DetachRequest};
use agent_api::storage_ttrpc::Storage;
use agent_api::types::Empty;
use async_trait::async_trait;
use ttrpc::r#async::TtrpcContext;

use super::{blocking, done};
use crate::storage::{Mounting, Window, attach, detach};

/// The service.
#[derive(Debug)]
pub(super) struct StorageService;

#[async_trait]
impl Storage for StorageService {
    async fn attach(
        &self,
        _: &TtrpcContext,
        request: AttachRequest,
    ) -> ttrpc::Result<AttachResponse> {
        let device = blocking(move || {
            let mounting = Mounting {
                point: request.mount_point,
                fstype: request.fstype,
                options: request.options,
            };
            attach(Window::new(request.window)?, &mounting)
        })
        .await?;
        Ok(AttachResponse { device, ..AttachResponse::default() })
    }

    async fn detach(&self, _: &TtrpcContext, request: DetachRequest) -> ttrpc::Result<Empty> {
        blocking(move || detach(Window::new(request.window)?, &request.mount_point)).await.map(done)
    }
}
