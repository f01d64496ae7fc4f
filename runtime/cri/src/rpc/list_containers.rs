//! ListContainers and StreamContainers: the containers, the newest first.

use std::cmp::Reverse;
use std::sync::Arc;

use protocol::cri::{
    Container, ContainerFilter, ListContainersRequest, ListContainersResponse,
    StreamContainersRequest, StreamContainersResponse,
};
use tonic::Request;

use super::filter;
use super::pages::{Pages, pages};
use crate::fault::Fault;
use crate::pods::Pods;
use crate::row;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ListContainersRequest>,
) -> Result<ListContainersResponse, Fault> {
    Ok(ListContainersResponse { containers: list(pods, request.get_ref().filter.as_ref()) })
}

pub(super) async fn stream(
    pods: &Arc<Pods>,
    request: Request<StreamContainersRequest>,
) -> Result<Pages<StreamContainersResponse>, Fault> {
    let items = list(pods, request.get_ref().filter.as_ref());
    Ok(pages(items, |containers| StreamContainersResponse { containers }))
}

fn list(pods: &Arc<Pods>, wanted: Option<&ContainerFilter>) -> Vec<Container> {
    let now = pods.node.records.now();
    let shown = now.containers.values().filter(|row| filter::container(wanted, row));
    let mut items: Vec<_> = shown.map(|row| item(row)).collect();
    items.sort_by_key(|item| Reverse(item.created_at));
    items
}

/// A container as lists show it (pure).
fn item(row: &row::Container) -> Container {
    let config = row.config.clone().unwrap_or_default();
    Container {
        id: row.id.clone(),
        pod_sandbox_id: row.pod.clone(),
        metadata: config.metadata,
        image: config.image,
        image_ref: row.image_id.clone(),
        state: row.state().into(),
        created_at: row.created_at,
        labels: config.labels,
        annotations: config.annotations,
        image_id: row.image_id.clone(),
    }
}
