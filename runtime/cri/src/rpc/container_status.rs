//! ContainerStatus: a container as it is on record.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::cri::{
    ContainerResources, ContainerState, ContainerStatus, ContainerStatusRequest,
    ContainerStatusResponse, ContainerUser, Mount,
};
use serde_json::json;
use tonic::Request;

use crate::fault::Fault;
use crate::pods::Pods;
use crate::restart;
use crate::row::Container;

pub(super) async fn run(
    pods: &Arc<Pods>,
    request: Request<ContainerStatusRequest>,
) -> Result<ContainerStatusResponse, Fault> {
    let ContainerStatusRequest { container_id, verbose } = request.into_inner();
    let now = pods.node.records.now();
    let row = now.container(&container_id)?;
    let info = if verbose { info(pods, row) } else { HashMap::new() };
    Ok(ContainerStatusResponse { status: Some(status(row)), info })
}

/// A container in the interface's words (pure).
pub(super) fn status(row: &Container) -> ContainerStatus {
    let config = row.config.clone().unwrap_or_default();
    let asked = config.linux.and_then(|linux| linux.resources);
    let resources = row.resources.clone();
    let state = row.state();
    let ended = state == ContainerState::ContainerExited;
    ContainerStatus {
        id: row.id.clone(),
        metadata: config.metadata,
        state: state.into(),
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: if ended { row.finished_at } else { 0 },
        exit_code: if ended { row.exit_code } else { 0 },
        image: config.image,
        image_ref: row.image_id.clone(),
        reason: if ended { row.reason.clone() } else { String::new() },
        message: if ended { row.message.clone() } else { String::new() },
        labels: config.labels,
        annotations: config.annotations,
        mounts: mounts(config.mounts, row),
        log_path: row.log_path.clone(),
        resources: Some(resources.unwrap_or(ContainerResources { linux: asked, windows: None })),
        image_id: row.image_id.clone(),
        user: row.user.clone().map(|linux| ContainerUser { linux: Some(linux) }),
        stop_signal: config.stop_signal,
    }
}

/// What is mounted, with the ids of images that are.
fn mounts(mut mounts: Vec<Mount>, row: &Container) -> Vec<Mount> {
    for image in mounts.iter_mut().filter_map(|mount| mount.image.as_mut()) {
        if let Some(id) = row.image_volumes.get(&image.image) {
            image.image_ref.clone_from(id);
        }
    }
    mounts
}

/// More of it, for people (`crictl inspect`).
fn info(pods: &Pods, row: &Container) -> HashMap<String, String> {
    let bundle = pods.node.places.bundle(&row.id);
    let spec = std::fs::read_to_string(bundle.join("config.json")).ok();
    let spec: serde_json::Value =
        spec.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let now = pods.node.records.now();
    let due = now.pods.get(&row.pod).and_then(|pod| restart::due(pod, row));
    let info = json!({ "sandboxID": row.pod, "bundle": bundle, "runtimeSpec": spec,
        "restarts": row.restarts, "restartAt": due });
    [("info".to_owned(), info.to_string())].into()
}

#[cfg(test)]
mod tests {
    use protocol::cri::{ContainerConfig, ImageSpec};

    use super::*;

    /// A kubelet compares it with the ids of images that it may remove.
    #[test]
    fn image_that_is_a_volume_is_told_by_its_id() {
        let image = |image: &str| Some(ImageSpec { image: image.into(), ..ImageSpec::default() });
        let mount = |name: &str| Mount { image: image(name), ..Mount::default() };
        let mounts = vec![mount("data:1"), Mount::default(), mount("lost")];
        let config = Some(ContainerConfig { mounts, ..ContainerConfig::default() });
        let image_volumes = [("data:1".to_owned(), "sha256:1".to_owned())].into();
        let row = Container { config, image_volumes, ..Container::default() };
        let told: Vec<_> = status(&row)
            .mounts
            .into_iter()
            .map(|mount| mount.image.map(|image| image.image_ref))
            .collect();
        assert_eq!(told, [Some("sha256:1".to_owned()), None, Some(String::new())]);
    }
}
