//! Gives a container or a pod other limits. It is answered when they are in force.

use protocol::cri::{ContainerResources, LinuxContainerResources};
use serde_json::json;
use shim_client::Any;

use crate::fault::Fault;
use crate::ids;
use crate::pod::fact::{Fact, Rows};
use crate::pod::foreign::input;
use crate::pod::handle::{Answer, Pod};
use crate::pod::handle::{NewLimits, PodLimits};
use crate::spec;

/// The name under which a shim finds a pod's new limits, as containerd gives them.
const RESOURCES: &str = "updated-resources";

/// Their type there.
const UPDATED: &str = "io.containerd.cri.v1/UpdatedResources";

pub(super) async fn container(pod: &Pod, rows: &Rows, id: &str, new: NewLimits) -> Answer {
    let shim = pod.site.shim()?;
    let row = rows.row(id).ok_or_else(|| Fault::NotFound(format!("no container {id}")))?;
    let path = pod.site.node.places.bundle(id).join("config.json");
    let failed = |error: &dyn std::fmt::Display| {
        Fault::Internal(format!("limits of container {id}: {}: {error}", path.display()))
    };
    let text = tokio::fs::read(&path).await.map_err(|error| failed(&error))?;
    let mut document: oci_spec::runtime::Spec =
        serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    let mut linux = document.linux().clone().unwrap_or_default();
    let mut limits = linux.resources().clone().unwrap_or_default();
    let notes = spec::apply(&mut limits, &new.resources, &input::facts(&pod.site))
        .map_err(|error| Fault::InvalidArgument(error.to_string()))?;
    for note in notes {
        log::info!("container {id}: {note}");
    }
    let resources = serde_json::to_value(&limits).map_err(|error| failed(&error))?;
    shim.update(&ids::of_container(id)?, &resources, new.annotations).await?;
    let asked = row.config.as_ref().and_then(|config| config.linux.as_ref());
    let score = asked.and_then(|linux| linux.resources.as_ref()).map(|own| own.oom_score_adj);
    let told = spec::status(&limits, score.and_then(|score| i32::try_from(score).ok()));
    linux.set_resources(Some(limits));
    document.set_linux(Some(linux));
    let text = serde_json::to_vec(&document).map_err(|error| failed(&error))?;
    tokio::fs::write(&path, text).await.map_err(|error| failed(&error))?;
    let told = ContainerResources { linux: Some(told), windows: None };
    pod.tell(Fact::Limited(id.to_owned(), Box::new(told))).await?;
    Ok(id.to_owned())
}

/// The pod's limits are its machine's. The shim decides what of them it can have.
pub(super) async fn pod(pod: &Pod, new: PodLimits) -> Answer {
    if !pod.site.class.is_own() {
        // Those of containers on the node are the pod's cgroup, which the kubelet writes.
        return Ok(pod.site.id.clone());
    }
    let words = |limits: &LinuxContainerResources| {
        json!({
            "cpu_period": limits.cpu_period,
            "cpu_quota": limits.cpu_quota,
            "cpu_shares": limits.cpu_shares,
            "memory_limit_in_bytes": limits.memory_limit_in_bytes,
        })
    };
    let (overhead, resources) = (new.overhead.as_ref(), new.resources.as_ref());
    let news = json!({ "Overhead": overhead.map(words), "Resources": resources.map(words) });
    let any = Any { type_url: UPDATED.to_owned(), value: news.to_string().into_bytes() };
    let sandbox = pod.site.shim()?.sandbox(ids::of_sandbox(&pod.site.id)?);
    sandbox.update(&[(RESOURCES.to_owned(), any)].into()).await?;
    Ok(pod.site.id.clone())
}
