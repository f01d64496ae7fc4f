//! The end of pods that have nothing to do any more.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::timeout;

use super::handle::{Ask, Pod};
use super::policy::Situation;
use crate::fault::Fault;
use crate::row::Container;

/// How long the clients of a pod that was stopped may take to get the rest of its output, for
/// somebody who waits for its end.
const TAKES: Duration = Duration::from_secs(10);

/// Stops a pod that has nothing to do any more, if it is one that ends then. Whoever is attached gets
/// the rest of the output first: the shim has it.
pub(crate) async fn idle(pod: &Pod) {
    pod.site.without_clients().await;
    // That it failed is in the log, and the next request for a stop tries again.
    let _stopped = pod.ask(Ask::StopIdle).await;
}

/// [`idle`] for somebody who has stopped a container and may want what the pod has, such as its
/// ports. A client that does not take its output is not waited for.
///
/// # Errors
/// Why the pod was not stopped.
pub(crate) async fn at_rest(pod: &Pod) -> Result<(), Fault> {
    if !is_idle(pod) || timeout(TAKES, pod.site.without_clients()).await.is_err() {
        return Ok(());
    }
    match pod.ask(Ask::StopIdle).await {
        // Somebody has removed it meanwhile.
        Err(_) if pod.is_over() => Ok(()),
        answer => answer.map(drop),
    }
}

/// Whether a pod seems to have nothing to do any more. Its owner knows more, and decides.
fn is_idle(pod: &Pod) -> bool {
    let now = pod.site.node.records.now();
    let Some(row) = now.pods.get(&pod.site.id) else { return false };
    let of_pod = now.containers.values().filter(|row| row.pod == pod.site.id);
    let containers: Vec<_> = of_pod.map(|row| Container::clone(row)).collect();
    Situation { pod: row, containers: &containers, busy: &HashSet::new() }.is_idle()
}
