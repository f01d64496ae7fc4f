//! Container: from Create to Delete.

mod create;
mod stats;
mod update;
mod wait_oom;

use std::sync::Arc;

use agent_api::container::{
    CreateContainerRequest, StatsResponse, UpdateContainerRequest, WaitOomRequest, WaitOomResponse,
};
use agent_api::container_ttrpc::Container;
use agent_api::types::{ContainerId, Empty, ProcessCreated};
use async_trait::async_trait;
use ttrpc::r#async::TtrpcContext;

use super::{done, status, to_the_end};
use crate::sandbox::Sandbox;

/// The service.
#[derive(Debug)]
pub(super) struct ContainerService(pub(super) Arc<Sandbox>);

#[async_trait]
impl Container for ContainerService {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateContainerRequest,
    ) -> ttrpc::Result<ProcessCreated> {
        to_the_end(create::run(Arc::clone(&self.0), request)).await
    }

    async fn delete(&self, _: &TtrpcContext, request: ContainerId) -> ttrpc::Result<Empty> {
        let sandbox = Arc::clone(&self.0);
        to_the_end(async move { sandbox.delete(&request.container_id).await }).await.map(done)
    }

    async fn pause(&self, _: &TtrpcContext, request: ContainerId) -> ttrpc::Result<Empty> {
        let container = self.0.container(&request.container_id).map_err(status::of)?;
        to_the_end(async move { container.pause(true).await }).await.map(done)
    }

    async fn resume(&self, _: &TtrpcContext, request: ContainerId) -> ttrpc::Result<Empty> {
        let container = self.0.container(&request.container_id).map_err(status::of)?;
        to_the_end(async move { container.pause(false).await }).await.map(done)
    }

    async fn update(
        &self,
        _: &TtrpcContext,
        request: UpdateContainerRequest,
    ) -> ttrpc::Result<Empty> {
        update::run(&self.0, &request).map_err(status::of).map(done)
    }

    async fn stats(&self, _: &TtrpcContext, request: ContainerId) -> ttrpc::Result<StatsResponse> {
        stats::run(&self.0, &request).await.map_err(status::of)
    }

    async fn wait_oom(
        &self,
        _: &TtrpcContext,
        request: WaitOomRequest,
    ) -> ttrpc::Result<WaitOomResponse> {
        wait_oom::run(&self.0, &request).await.map_err(status::of)
    }
}
