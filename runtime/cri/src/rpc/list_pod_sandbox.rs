//! ListPodSandbox and StreamPodSandboxes: the pods, the newest first.

use std::cmp::Reverse;
use std::sync::Arc;

use protocol::cri::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxFilter,
    StreamPodSandboxesRequest, StreamPodSandboxesResponse,
};
use tonic::Request;

use super::filter;
use super::pages::{Pages, pages};
use crate::fault::Fault;
use crate::pods::Pods;
use crate::row::Pod;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ListPodSandboxRequest>,
) -> Result<ListPodSandboxResponse, Fault> {
    Ok(ListPodSandboxResponse { items: list(pods, request.get_ref().filter.as_ref()) })
}

pub(super) async fn stream(
    pods: &Arc<Pods>,
    request: Request<StreamPodSandboxesRequest>,
) -> Result<Pages<StreamPodSandboxesResponse>, Fault> {
    let items = list(pods, request.get_ref().filter.as_ref());
    Ok(pages(items, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
}

fn list(pods: &Arc<Pods>, wanted: Option<&PodSandboxFilter>) -> Vec<PodSandbox> {
    let now = pods.node.records.now();
    let mut items: Vec<_> =
        now.pods.values().filter(|row| filter::pod(wanted, row)).map(|row| item(row)).collect();
    items.sort_by_key(|item| Reverse(item.created_at));
    items
}

/// A pod as lists show it (pure).
fn item(row: &Pod) -> PodSandbox {
    let config = row.config.clone().unwrap_or_default();
    PodSandbox {
        id: row.id.clone(),
        metadata: config.metadata,
        state: row.state().into(),
        created_at: row.created_at,
        labels: config.labels,
        annotations: config.annotations,
        runtime_handler: row.handler.clone(),
    }
}
