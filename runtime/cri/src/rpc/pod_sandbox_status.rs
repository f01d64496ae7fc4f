//! PodSandboxStatus: a pod as it is on record, and its containers.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::cri::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandboxNetworkStatus, PodSandboxStatus,
    PodSandboxStatusRequest, PodSandboxStatusResponse,
};
use serde_json::json;
use tonic::Request;

use super::container_status;
use crate::clock;
use crate::fault::Fault;
use crate::pods::Pods;
use crate::row::Pod;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<PodSandboxStatusRequest>,
) -> Result<PodSandboxStatusResponse, Fault> {
    let PodSandboxStatusRequest { pod_sandbox_id, verbose } = request.into_inner();
    // Before what is told: an event that is younger says more.
    let timestamp = clock::now();
    let now = pods.node.records.now();
    let row = now.pod(&pod_sandbox_id)?;
    let containers = now.containers_of(&row.id).map(|row| container_status::status(row));
    Ok(PodSandboxStatusResponse {
        status: Some(status(row)),
        info: if verbose { info(pods, row) } else { HashMap::new() },
        containers_statuses: containers.collect(),
        timestamp,
    })
}

/// A pod in the interface's words (pure).
pub(super) fn status(row: &Pod) -> PodSandboxStatus {
    let config = row.config.clone().unwrap_or_default();
    let linux = config.linux.unwrap_or_default();
    let options = linux.security_context.unwrap_or_default().namespace_options;
    let mut ips = row.ips.iter().cloned();
    PodSandboxStatus {
        id: row.id.clone(),
        metadata: config.metadata,
        state: row.state().into(),
        created_at: row.created_at,
        network: Some(PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        }),
        linux: Some(LinuxPodSandboxStatus {
            namespaces: Some(Namespace { options: Some(options.unwrap_or_default()) }),
        }),
        labels: config.labels,
        annotations: config.annotations,
        runtime_handler: row.handler.clone(),
    }
}

/// More of it, for people (`crictl inspectp`).
fn info(pods: &Pods, row: &Pod) -> HashMap<String, String> {
    let shim = pods.get(&row.id).and_then(|pod| pod.site.shim()).ok();
    let info = json!({
        "pid": shim.map_or(0, |shim| shim.pid()),
        "runtimeHandler": row.handler,
        "netNSClosed": row.netns.is_empty(),
        "networkNamespace": row.netns,
        "reason": row.reason,
        "bundle": pods.node.places.bundle(&row.id),
    });
    [("info".to_owned(), info.to_string())].into()
}
