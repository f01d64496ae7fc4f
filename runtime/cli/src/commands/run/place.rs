//! The pod that a container goes into, and what is left when it is given up.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use protocol::cri::{PodSandboxConfig, PodSandboxState, RunPodSandboxRequest};

use crate::client::{Client, ClientError, NAME, answer};
use crate::ending;
use crate::human::short;
use crate::plan::{OWN, Plan};

/// What was made so far.
pub(super) struct Made<'a> {
    pub(super) client: &'a Client,
    /// The pod that was made for the container; none if it joins another.
    pub(super) pod: Option<String>,
    /// The container.
    pub(super) container: Option<String>,
    /// Its log, if the pod was made for it.
    pub(super) log: PathBuf,
}

impl Made<'_> {
    /// Lets nothing be left of it.
    pub(super) async fn undo(&self) {
        let undone = match (&self.pod, &self.container) {
            (Some(pod), _) => ending::remove_pod(self.client, pod).await,
            (None, Some(container)) => self.remove(container).await,
            (None, None) => Ok(()),
        };
        if let Err(error) = undone {
            eprintln!("cuddy: removing the container: {error}");
        }
        if self.pod.is_some() {
            // No record names the log of a container that could not be created.
            ending::remove_log(&self.log);
        }
    }

    async fn remove(&self, container: &str) -> Result<(), ClientError> {
        let container = self.client.container(container).await?;
        ending::remove(self.client, &container).await
    }

    /// Makes a pod for the container; its id and its configuration.
    pub(super) async fn pod(&mut self, plan: &Plan) -> anyhow::Result<(String, PodSandboxConfig)> {
        let config = plan.pod();
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            ..RunPodSandboxRequest::default()
        };
        let answered = answer(self.client.runtime().run_pod_sandbox(request).await);
        let pod = answered.with_context(without_kvm)?.pod_sandbox_id;
        self.pod = Some(pod.clone());
        Ok((pod, config))
    }
}

/// Finds that no container has this name, and no pod if one is to be made.
///
/// # Errors
/// Who has the name, and how it becomes free.
pub(super) async fn is_free(client: &Client, name: &str, with_pod: bool) -> anyhow::Result<()> {
    let has_it = |labels: &HashMap<String, String>| labels.get(NAME).is_some_and(|own| own == name);
    let containers = client.containers().await?;
    if let Some(other) = containers.iter().find(|one| has_it(&one.labels)) {
        let id = short(&other.id);
        bail!("the name {name:?} is taken by container {id}: `cuddy rm {name}` frees it");
    }
    if !with_pod {
        return Ok(());
    }
    let pods = client.pods().await?;
    let pod = pods.iter().find(|pod| pod.labels.contains_key(OWN) && has_it(&pod.labels));
    let Some(pod) = pod else { return Ok(()) };
    let left = containers.iter().find(|one| one.pod_sandbox_id == pod.id);
    match left.map(|one| one.labels.get(NAME).cloned().unwrap_or_else(|| short(&one.id))) {
        Some(other) => bail!(
            "the name {name:?} is taken by the pod that container {other:?} is in: \
             `cuddy rm {other}` frees it"
        ),
        None => bail!(
            "the name {name:?} is taken by a pod without containers: `cuddy rm {name}` frees it"
        ),
    }
}

/// The pod that `text` means, by itself or by a container in it; its id.
///
/// # Errors
/// That there is none, or that nobody can join it.
pub(super) async fn joined(client: &Client, text: &str) -> anyhow::Result<String> {
    let id = match client.container(text).await {
        Ok(container) => container.pod_sandbox_id,
        Err(ClientError::NotFound(_)) => client.pod(text).await?.id,
        Err(error) => return Err(error.into()),
    };
    let pod = client.pod(&id).await?;
    if !pod.labels.contains_key(OWN) {
        bail!("pod {text:?} is not of `cuddy run`: whoever made it decides what is in it");
    }
    if pod.state() != PodSandboxState::SandboxReady {
        bail!("the machine of {text:?} has ended: `cuddy run` makes another one");
    }
    Ok(id)
}

/// What this host lacks, where it is known why no pod starts.
fn without_kvm() -> String {
    match std::path::Path::new("/dev/kvm").exists() {
        true => "starting a machine for the container".to_owned(),
        false => "this host has no /dev/kvm (`cuddy check` says what to do)".to_owned(),
    }
}
