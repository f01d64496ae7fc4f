//! ContainerStats, ListContainerStats and StreamContainerStats: what containers use.

use std::sync::Arc;

use protocol::cri::{
    ContainerFilter, ContainerStats, ContainerStatsFilter, ContainerStatsRequest,
    ContainerStatsResponse, ListContainerStatsRequest, ListContainerStatsResponse,
    StreamContainerStatsRequest, StreamContainerStatsResponse,
};
use tonic::Request;

use super::filter;
use super::pages::{Pages, pages};
use crate::fault::Fault;
use crate::pods::Pods;
use crate::stats;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ContainerStatsRequest>,
) -> Result<ContainerStatsResponse, Fault> {
    let now = pods.node.records.now();
    let row = now.container(&request.get_ref().container_id)?;
    let stats = stats::containers(pods, |one| one.id == row.id).await.pop();
    let stopped = || Fault::FailedPrecondition(format!("container {} does not run", row.id));
    Ok(ContainerStatsResponse { stats: Some(stats.ok_or_else(stopped)?) })
}

pub(super) async fn list(
    pods: &Arc<Pods>,
    request: Request<ListContainerStatsRequest>,
) -> Result<ListContainerStatsResponse, Fault> {
    Ok(ListContainerStatsResponse { stats: all(pods, request.into_inner().filter).await })
}

pub(super) async fn stream(
    pods: &Arc<Pods>,
    request: Request<StreamContainerStatsRequest>,
) -> Result<Pages<StreamContainerStatsResponse>, Fault> {
    let items = all(pods, request.into_inner().filter).await;
    Ok(pages(items, |container_stats| StreamContainerStatsResponse { container_stats }))
}

async fn all(pods: &Arc<Pods>, wanted: Option<ContainerStatsFilter>) -> Vec<ContainerStats> {
    let wanted = wanted.map(|wanted| ContainerFilter {
        id: wanted.id,
        state: None,
        pod_sandbox_id: wanted.pod_sandbox_id,
        label_selector: wanted.label_selector,
    });
    stats::containers(pods, |row| filter::container(wanted.as_ref(), row)).await
}
