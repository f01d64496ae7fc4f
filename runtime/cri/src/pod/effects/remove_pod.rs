//! Removes a pod with its containers, and stops it first.

use super::remove::remove_bundle;
use super::{remove_files, stop_pod};
use crate::pod::fact::{Fact, Rows};
use crate::pod::handle::{Answer, Pod};

pub(super) async fn run(pod: &Pod, rows: &Rows) -> Answer {
    stop_pod::run(pod, rows).await?;
    pod.tell(Fact::PodRemoving).await?;
    let site = &pod.site;
    let now = site.node.records.now();
    for row in now.containers.values().filter(|row| row.pod == site.id) {
        pod.tell(Fact::Removing(row.id.clone())).await?;
        remove_files(site, &row.id).await?;
        pod.tell(Fact::Removed(row.id.clone())).await?;
    }
    remove_bundle(&site.bundle()).await?;
    pod.tell(Fact::PodRemoved).await?;
    Ok(site.id.clone())
}
