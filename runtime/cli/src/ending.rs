//! Ends of containers. A pod that `cuddy run` made for a container ends with it.

use std::path::Path;

use protocol::cri::{
    Container, ContainerState, RemoveContainerRequest, RemovePodSandboxRequest,
    StopContainerRequest, StopPodSandboxRequest,
};

use crate::client::{Client, ClientError, NAME, answer};
use crate::plan::OWN;

/// Whether a pod exists for this container's sake.
async fn has_own_pod(client: &Client, container: &Container) -> Result<bool, ClientError> {
    let pods = client.pods().await?;
    let pod = pods.iter().find(|pod| pod.id == container.pod_sandbox_id);
    let name = container.labels.get(NAME);
    Ok(pod.is_some_and(|pod| {
        pod.labels.contains_key(OWN) && name.is_some() && pod.labels.get(NAME) == name
    }))
}

/// Ends a container's process, by its signal first and by force after `seconds`.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn stop_process(
    client: &Client,
    id: &str,
    seconds: u32,
) -> Result<(), ClientError> {
    let request = StopContainerRequest { container_id: id.to_owned(), timeout: seconds.into() };
    answer(client.runtime().stop_container(request).await).map(drop)
}

/// Ends a container, and the pod of its own, whose machine has nothing to do any more.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn stop(
    client: &Client,
    container: &Container,
    seconds: u32,
) -> Result<(), ClientError> {
    stop_process(client, &container.id, seconds).await?;
    if has_own_pod(client, container).await? {
        let pod_sandbox_id = container.pod_sandbox_id.clone();
        answer(client.runtime().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id }).await)?;
    }
    Ok(())
}

/// Removes a container, with the pod of its own and its log.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn remove(client: &Client, container: &Container) -> Result<(), ClientError> {
    if !has_own_pod(client, container).await? {
        let request = RemoveContainerRequest { container_id: container.id.clone() };
        return answer(client.runtime().remove_container(request).await).map(drop);
    }
    remove_pod(client, &container.pod_sandbox_id).await
}

/// Removes a pod with all that is in it, and the logs of its containers.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn remove_pod(client: &Client, id: &str) -> Result<(), ClientError> {
    let pod_sandbox_id = id.to_owned();
    let mut logs = Vec::new();
    for container in client.containers().await?.iter().filter(|one| one.pod_sandbox_id == id) {
        logs.push(client.status(&container.id).await?.0.log_path);
    }
    let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    answer(client.runtime().stop_pod_sandbox(request).await)?;
    let request = RemovePodSandboxRequest { pod_sandbox_id };
    answer(client.runtime().remove_pod_sandbox(request).await)?;
    logs.iter().filter(|log| !log.is_empty()).for_each(|log| remove_log(Path::new(log)));
    Ok(())
}

/// Removes a log and the directory of its own. Members of the group may not; the log stays then.
pub(crate) fn remove_log(log: &Path) {
    let _kept = std::fs::remove_file(log);
    if let Some(directory) = log.parent() {
        let _kept = std::fs::remove_dir(directory);
    }
}

/// Whether a container's process runs.
pub(crate) fn runs(container: &Container) -> bool {
    container.state() == ContainerState::ContainerRunning
}
