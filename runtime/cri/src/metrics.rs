//! What pods and containers use, as the metrics that a kubelet's cAdvisor gave of containers on the
//! host. What is not known has no value: none is made up.

mod catalogue;
mod samples;
mod values;

use std::sync::Arc;

use futures::future::join_all;
use protocol::cri::{ContainerMetrics, MetricDescriptor, PodSandboxMetrics};

use crate::pods::{Known, Pods};
use crate::row::{self, PodPhase};
use crate::stats;
use samples::Samples;
use values::Used;

/// The descriptors of all metrics that pods may have.
pub(crate) fn descriptors() -> Vec<MetricDescriptor> {
    catalogue::descriptors()
}

/// The metrics of all pods that are ready.
pub(crate) async fn pods(pods: &Arc<Pods>) -> Vec<PodSandboxMetrics> {
    let now = pods.node.records.now();
    let ready = now.pods.values().filter(|row| row.phase() == PodPhase::Ready);
    let asked = ready.map(|row| async move { of_pod(pods, row, &stats::known(pods, row).await) });
    join_all(asked).await
}

fn of_pod(pods: &Pods, row: &row::Pod, known: &Known) -> PodSandboxMetrics {
    let now = pods.node.records.now();
    let containers = now.containers_of(&row.id).filter(|one| stats::runs(one));
    let container_metrics = containers.map(|one| {
        let written = stats::written(&pods.node, &one.id);
        let written = written.and_then(|usage| usage.used_bytes).map(|bytes| bytes.value);
        of_container(row, one, known, written)
    });
    PodSandboxMetrics {
        pod_sandbox_id: row.id.clone(),
        metrics: pod_metrics(row, known),
        container_metrics: container_metrics.collect(),
    }
}

/// The metrics of a pod as a whole (pure).
fn pod_metrics(row: &row::Pod, known: &Known) -> Vec<protocol::cri::Metric> {
    let mut samples = Samples::of_pod(row, known);
    values::seen(&mut samples, row.created_at, known);
    if let Some(metrics) = known.pod.as_ref().and_then(stats::metrics) {
        values::used(&mut samples, &Used { metrics: &metrics, census: None, written: None });
    }
    values::traffic(&mut samples, &known.interfaces);
    samples.done()
}

/// The metrics of a container (pure). `written`: bytes of its disk on the node's.
fn of_container(
    pod: &row::Pod,
    row: &row::Container,
    known: &Known,
    written: Option<u64>,
) -> ContainerMetrics {
    let mut samples = Samples::of_container(pod, row, known);
    values::seen(&mut samples, row.started_at, known);
    values::asked_for(&mut samples, row);
    if let Some(metrics) = known.containers.get(&row.id).and_then(stats::metrics) {
        let census = known.census.get(&row.id);
        values::used(&mut samples, &Used { metrics: &metrics, census, written });
    }
    ContainerMetrics { container_id: row.id.clone(), metrics: samples.done() }
}

#[cfg(test)]
mod tests;
