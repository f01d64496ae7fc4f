//! `cuddy inspect`: all that is known of a container, a pod or an image, as JSON.

use std::collections::HashMap;
use std::process::ExitCode;

use protocol::cri::{
    ContainerStatus, ImageSpec, ImageStatusRequest, PodSandboxState, PodSandboxStatusRequest,
};
use serde_json::{Value, json};

use crate::client::{Client, ClientError, answer};
use crate::human::state_word;
use crate::output;
use crate::restarts::Restarts;

/// Print all that is known of containers, pods or images.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Names or ids; containers come first, then pods, then images.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl InspectArgs {
    /// Prints a list with an object for each.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let mut all = Vec::new();
        for name in &self.names {
            all.push(one(client, name).await?);
        }
        output::json(&all.into())?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn one(client: &Client, name: &str) -> Result<Value, ClientError> {
    match client.container(name).await {
        Ok(found) => {
            let (status, info) = client.status(&found.id).await?;
            return Ok(container(&status, &info));
        }
        Err(ClientError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    match client.pod(name).await {
        Ok(found) => return pod(client, found.id).await,
        Err(ClientError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let image = Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() });
    let request = ImageStatusRequest { image, verbose: true };
    let answer = answer(client.image_service().image_status(request).await)?;
    let none = || ClientError::NotFound(format!("no container, pod or image {name:?}"));
    let image = answer.image.ok_or_else(none)?;
    Ok(json!({
        "kind": "image",
        "id": image.id,
        "tags": image.repo_tags,
        "digests": image.repo_digests,
        "size": image.size,
        "pinned": image.pinned,
        "info": info(&answer.info),
    }))
}

/// What the daemon says for people, which is JSON itself.
fn info(info: &HashMap<String, String>) -> Value {
    info.get("info").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

async fn pod(client: &Client, pod_sandbox_id: String) -> Result<Value, ClientError> {
    let request = PodSandboxStatusRequest { pod_sandbox_id, verbose: true };
    let answer = answer(client.runtime().pod_sandbox_status(request).await)?;
    let status = answer.status.unwrap_or_default();
    let metadata = status.metadata.clone().unwrap_or_default();
    let network = status.network.clone().unwrap_or_default();
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    let ips: Vec<_> = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
    let containers: Vec<_> = answer.containers_statuses.iter().map(|one| one.id.clone()).collect();
    Ok(json!({
        "kind": "pod",
        "id": status.id,
        "namespace": metadata.namespace,
        "name": metadata.name,
        "uid": metadata.uid,
        "attempt": metadata.attempt,
        "ready": status.state() == PodSandboxState::SandboxReady,
        "createdAt": status.created_at,
        "ips": ips,
        "handler": status.runtime_handler,
        "containers": containers,
        "labels": status.labels,
        "annotations": status.annotations,
        "info": info(&answer.info),
    }))
}

/// A container in our words (pure).
fn container(status: &ContainerStatus, info: &Value) -> Value {
    let state = state_word(status.state());
    let restarts = Restarts::read(info);
    let mounts = status.mounts.iter().map(|mount| {
        json!({ "host": mount.host_path, "container": mount.container_path, "readonly": mount.readonly })
    });
    let mounts: Vec<_> = mounts.collect();
    json!({
        "kind": "container",
        "id": status.id,
        "name": status.metadata.clone().unwrap_or_default().name,
        "state": state,
        "createdAt": status.created_at,
        "startedAt": status.started_at,
        "finishedAt": status.finished_at,
        "exitCode": status.exit_code,
        "reason": status.reason,
        "message": status.message,
        "restarts": restarts.count,
        "restartAt": restarts.at,
        "imageId": status.image_id,
        "logPath": status.log_path,
        "mounts": mounts,
        "labels": status.labels,
        "annotations": status.annotations,
        "info": info,
    })
}
