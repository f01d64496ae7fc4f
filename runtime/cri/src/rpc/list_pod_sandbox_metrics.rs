//! ListPodSandboxMetrics and StreamPodSandboxMetrics: what pods and containers use, for
//! monitoring.

use std::sync::Arc;

use protocol::cri::{ListPodSandboxMetricsResponse, StreamPodSandboxMetricsResponse};

use super::pages::{Pages, pages};
use crate::fault::Fault;
use crate::metrics;
use crate::pods::Pods;

pub(super) async fn list(pods: &Arc<Pods>) -> Result<ListPodSandboxMetricsResponse, Fault> {
    Ok(ListPodSandboxMetricsResponse { pod_metrics: metrics::pods(pods).await })
}

pub(super) async fn stream(
    pods: &Arc<Pods>,
) -> Result<Pages<StreamPodSandboxMetricsResponse>, Fault> {
    let items = metrics::pods(pods).await;
    Ok(pages(items, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics }))
}
