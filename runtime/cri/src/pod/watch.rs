//! Watches that tell a pod's owner what ends by itself: a container, the machine, the shim.

use std::sync::Arc;
use std::time::Duration;

use api::events::Exit;
use shim_client::{Error, Listing, Shim};

use super::fact::{Ending, Fact};
use super::foreign::{metrics, outputs};
use super::handle::Pod;
use super::{rest, restarts, site};
use crate::clock;

/// Pause after an answer that makes no sense.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a shim may take to tell how a container ended, for the words of it.
const TELLS: Duration = Duration::from_secs(5);

/// Watches a container until its end is on record.
pub(crate) fn container(pod: Pod, shim: Shim, id: String) {
    tokio::spawn(async move {
        let Ok(target) = site::init(&id) else { return };
        loop {
            match shim.wait(&target).await {
                Ok(exit) => {
                    let ending = ending(&pod, &shim, &id, &exit).await;
                    tell(&pod, Fact::Exited(id.clone(), ending)).await;
                    restarts::again(&pod, &id).await;
                    return rest::idle(&pod).await;
                }
                // Deleted; or the shim is gone, which the pod's watch tells.
                Err(Error::NotFound(_) | Error::Disconnected(_) | Error::Gone(_)) => return,
                Err(error) => {
                    log::warn!("container {id}: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    });
}

/// How a container's process ended. All that it wrote is in its log when this is known.
async fn ending(pod: &Pod, shim: &Shim, id: &str, exit: &Exit) -> Ending {
    let (code, at) = (exit.status, clock::nanos(exit.at));
    if pod.site.class.is_own() {
        // Our own shim tells an end when the log is complete.
        let told = told(pod, shim).await;
        let own = told.containers.iter().find(|listed| listed.id.as_str() == id);
        let out_of_memory = own.is_some_and(|own| own.out_of_memory);
        return Ending { code, at, out_of_memory, cause: told.reason };
    }
    let killed = code == Exit::KILLED;
    let out_of_memory = killed
        && (metrics::out_of_memory(&shim.within(TELLS), id).await
            || pod.site.node.news.out_of_memory(id).await);
    outputs::drain(&pod.site, id).await;
    Ending { code, at, out_of_memory, cause: String::new() }
}

/// What the shim says of its containers and its machine. Foreign ones say nothing.
async fn told(pod: &Pod, shim: &Shim) -> Listing {
    if !pod.site.class.is_own() {
        return Listing::default();
    }
    let listed = shim.within(TELLS).own().list().await;
    listed.inspect_err(|error| log::warn!("pod {}: {error}", pod.site.id)).unwrap_or_default()
}

/// Watches a pod until its shim is gone.
pub(crate) fn pod(pod: Pod, shim: Shim) {
    if !pod.site.class.is_own() {
        let site = Arc::clone(&pod.site);
        tokio::spawn(async move { outputs::keep(&site).await });
    }
    tokio::spawn(async move {
        tokio::select! {
            () = shim.closed() => {}
            shim_lives = ended(&pod, &shim) => {
                if shim_lives {
                    let reason = told(&pod, &shim).await.reason;
                    tell(&pod, Fact::PodEnded(reason)).await;
                }
                shim.closed().await;
            }
        }
        gone(&pod).await;
    });
}

/// Waits until the pod has ended, and says whether its shim told so. One that is gone tells nothing.
async fn ended(pod: &Pod, shim: &Shim) -> bool {
    loop {
        match pod.site.ended(shim).await {
            Ok(()) => return true,
            Err(Error::Disconnected(_) | Error::Gone(_)) => return false,
            Err(error) => {
                log::warn!("pod {}: {error}", pod.site.id);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The shim is gone. If nobody asked for it, what it had is cleaned up, and all that it ran has
/// ended.
async fn gone(pod: &Pod) {
    if pod.site.shim().is_err() || pod.site.is_ending() {
        return;
    }
    log::error!("pod {}: its shim has ended", pod.site.id);
    pod.site.set_shim(None);
    if let Err(fault) = pod.site.clean_up().await {
        // The stop of the pod tries again.
        log::error!("pod {}: {fault}", pod.site.id);
    }
    lost(pod, "the pod's shim ended unexpectedly").await;
}

/// Puts on record that a pod has ended of whose end nobody told, for this reason.
pub(crate) async fn lost(pod: &Pod, reason: &str) {
    tell(pod, Fact::PodEnded(reason.to_owned())).await;
    let now = pod.site.node.records.now();
    let of_pod = now.containers.values().filter(|row| row.pod == pod.site.id);
    for row in of_pod.filter(|row| row.lives()) {
        tell(pod, Fact::Exited(row.id.clone(), Ending::unseen(clock::now(), reason))).await;
    }
}

/// Tells a pod's owner what happened. That it could not be written is in the log.
pub(super) async fn tell(pod: &Pod, fact: Fact) {
    if let Err(fault) = pod.tell(fact).await {
        log::error!("pod {}: {fault}", pod.site.id);
    }
}
