//! Ends of containers. A pod that `cuddy run` made ends with the last of its containers.

use std::path::Path;

use protocol::cri::{
    Container, ContainerState, RemoveContainerRequest, RemovePodSandboxRequest,
    StopContainerRequest, StopPodSandboxRequest,
};

use crate::client::{Client, ClientError, answer};
use crate::plan::OWN;
use crate::restarts::Restarts;

/// The other containers of a pod that `cuddy run` made; none if the pod is somebody else's.
async fn beside(
    client: &Client,
    container: &Container,
) -> Result<Option<Vec<Container>>, ClientError> {
    let pods = client.pods().await?;
    let pod = pods.iter().find(|pod| pod.id == container.pod_sandbox_id);
    if !pod.is_some_and(|pod| pod.labels.contains_key(OWN)) {
        return Ok(None);
    }
    let mut others = client.containers().await?;
    others.retain(|other| {
        other.pod_sandbox_id == container.pod_sandbox_id && other.id != container.id
    });
    Ok(Some(others))
}

/// Ends a container, by its signal first and by force after `seconds`. The daemon ends a pod of
/// `cuddy run` with the last of its containers; its machine and its ports are free then.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn stop(client: &Client, id: &str, seconds: u32) -> Result<(), ClientError> {
    let request = StopContainerRequest { container_id: id.to_owned(), timeout: seconds.into() };
    answer(client.runtime().stop_container(request).await).map(drop)
}

/// Whether a container that has ended is to be started again by its policy.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn is_to_run_again(client: &Client, id: &str) -> Result<bool, ClientError> {
    Ok(Restarts::read(&client.status(id).await?.1).at.is_some())
}

/// Removes a container with its log, and with the last one the pod that `cuddy run` made.
///
/// # Errors
/// [`ClientError::Refused`].
pub(crate) async fn remove(client: &Client, container: &Container) -> Result<(), ClientError> {
    let others = beside(client, container).await?;
    if others.as_ref().is_some_and(Vec::is_empty) {
        return remove_pod(client, &container.pod_sandbox_id).await;
    }
    // A log of somebody else's stays.
    let log = match others {
        Some(_) => client.status(&container.id).await?.0.log_path,
        None => String::new(),
    };
    let request = RemoveContainerRequest { container_id: container.id.clone() };
    answer(client.runtime().remove_container(request).await)?;
    if !log.is_empty() {
        remove_log(Path::new(&log));
    }
    Ok(())
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
