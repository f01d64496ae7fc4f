//! Stops a pod: its containers, its machine and its network are gone when this is done.

use std::time::Duration;

use super::stop;
use crate::clock;
use crate::fault::Fault;
use crate::pod::fact::{Ending, Fact, Rows};
use crate::pod::handle::{Answer, Pod};
use crate::pod::site::Site;
use crate::pod::watch;
use crate::row;

/// How long a pod may take to stop in order: the guest writes what it has, for a minute at most.
const PATIENCE: Duration = Duration::from_secs(75);

/// How long ends may take to be on record once the shim has told them.
const TOLD: Duration = Duration::from_secs(5);

pub(super) async fn run(pod: &Pod, rows: &Rows) -> Answer {
    pod.tell(Fact::PodStopped).await?;
    if rows.pod.has_shim {
        end_shim(pod).await?;
    }
    take_down(&pod.site, &rows.pod).await?;
    pod.tell(Fact::NoNetwork).await?;
    Ok(pod.site.id.clone())
}

/// Ends the machine and the shim in order, and by force if that fails.
async fn end_shim(pod: &Pod) -> Result<(), Fault> {
    let mut clean = false;
    pod.site.set_ending();
    if let Ok(shim) = pod.site.shim() {
        let ended = pod.site.end(&shim, PATIENCE).await;
        if let Err(fault) = &ended {
            log::warn!("pod {}: ending its shim in order: {fault}", pod.site.id);
        }
        clean = ended.is_ok();
    }
    if !clean {
        pod.site.clean_up().await?;
    }
    ends_are_on_record(pod).await;
    pod.site.let_go().await?;
    pod.site.set_shim(None);
    pod.tell(Fact::NoShim).await
}

/// Waits until the end of each container is on record, and puts there what nobody saw.
async fn ends_are_on_record(pod: &Pod) {
    let now = pod.site.node.records.now();
    let of_pod = now.containers.values().filter(|row| row.pod == pod.site.id);
    for row in of_pod.filter(|row| row.lives()) {
        if tokio::time::timeout(TOLD, stop::ended(pod, &row.id)).await.is_err() {
            let ending = Ending::unseen(clock::now(), "");
            watch::tell(pod, Fact::Exited(row.id.clone(), ending)).await;
        }
    }
}

/// Takes a pod's network down. It can be done again.
///
/// # Errors
/// What the network said; then it is tried again with the next request.
pub(crate) async fn take_down(site: &Site, pod: &row::Pod) -> Result<(), Fault> {
    let network = &site.node.network;
    if !pod.attachment.is_empty() {
        network.detach(&pod.attachment).await?;
    }
    if !pod.netns.is_empty() {
        network.remove_namespace(&pod.netns).await?;
    }
    Ok(())
}
