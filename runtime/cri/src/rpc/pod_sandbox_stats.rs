//! PodSandboxStats, ListPodSandboxStats and StreamPodSandboxStats: what pods use.

use std::sync::Arc;

use protocol::cri::{
    ListPodSandboxStatsRequest, ListPodSandboxStatsResponse, PodSandboxFilter, PodSandboxStats,
    PodSandboxStatsFilter, PodSandboxStatsRequest, PodSandboxStatsResponse,
    StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse,
};
use tonic::Request;

use super::filter;
use super::pages::{Pages, pages};
use crate::fault::Fault;
use crate::pods::Pods;
use crate::stats;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<PodSandboxStatsRequest>,
) -> Result<PodSandboxStatsResponse, Fault> {
    let now = pods.node.records.now();
    let row = now.pod(&request.get_ref().pod_sandbox_id)?;
    let stats = stats::pods(pods, |one| one.id == row.id).await.pop();
    Ok(PodSandboxStatsResponse { stats })
}

pub(super) async fn list(
    pods: &Arc<Pods>,
    request: Request<ListPodSandboxStatsRequest>,
) -> Result<ListPodSandboxStatsResponse, Fault> {
    Ok(ListPodSandboxStatsResponse { stats: all(pods, request.into_inner().filter).await })
}

pub(super) async fn stream(
    pods: &Arc<Pods>,
    request: Request<StreamPodSandboxStatsRequest>,
) -> Result<Pages<StreamPodSandboxStatsResponse>, Fault> {
    let items = all(pods, request.into_inner().filter).await;
    Ok(pages(items, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats }))
}

async fn all(pods: &Arc<Pods>, wanted: Option<PodSandboxStatsFilter>) -> Vec<PodSandboxStats> {
    let wanted = wanted.map(|wanted| PodSandboxFilter {
        id: wanted.id,
        state: None,
        label_selector: wanted.label_selector,
    });
    stats::pods(pods, |row| filter::pod(wanted.as_ref(), row)).await
}
