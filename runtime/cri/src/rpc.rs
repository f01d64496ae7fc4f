//! The container runtime interface: a call a file. Each reads its request, asks a pod's owner or
//! the snapshot, and writes the answer.

mod attach;
mod container_stats;
mod container_status;
mod create_container;
mod exec;
mod exec_sync;
mod filter;
mod get_container_events;
mod image_fs_info;
mod image_service;
mod image_status;
mod list_containers;
mod list_images;
mod list_metric_descriptors;
mod list_pod_sandbox;
mod list_pod_sandbox_metrics;
mod pages;
mod pod_sandbox_stats;
mod pod_sandbox_status;
mod port_forward;
mod pull_image;
mod remove_container;
mod remove_image;
mod remove_pod_sandbox;
mod reopen_container_log;
mod run_pod_sandbox;
mod runtime_config;
mod runtime_service;
mod start_container;
mod status;
mod stop_container;
mod stop_pod_sandbox;
mod update_container_resources;
mod update_pod_sandbox_resources;
mod version;

use std::sync::Arc;

use crate::fault::Fault;
use crate::pods::Pods;

/// The services of the interface.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pods: Arc<Pods>,
}

impl Services {
    /// The services of these pods.
    pub(crate) fn new(pods: &Arc<Pods>) -> Self {
        Self { pods: Arc::clone(pods) }
    }
}

/// What a call is answered.
type Answer<T> = Result<tonic::Response<T>, tonic::Status>;

/// Waits for what a file says, and answers it.
async fn answer<T>(said: impl Future<Output = Result<T, Fault>>) -> Answer<T> {
    Ok(tonic::Response::new(said.await?))
}

/// The answer to what is not offered.
fn unimplemented(call: &str) -> tonic::Status {
    tonic::Status::unimplemented(format!("cuddyd does not offer {call} yet"))
}

/// What a caller wants to be gone, if it is there: what is not there is gone.
fn there<T>(found: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Fault::NotFound(_)) => Ok(None),
        Err(fault) => Err(fault),
    }
}
