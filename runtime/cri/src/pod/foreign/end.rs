//! The end of a foreign pod: in order, or by force.

use std::time::Duration;

use api::events::SIGKILL;
use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use shim_client::{Error, Shim};

use crate::fault::Fault;
use crate::ids;
use crate::pod::site::{self, Site};

/// How long a shim may take to answer, or to be gone that was killed.
const ANSWERS: Duration = Duration::from_secs(5);

/// Ends all containers of a pod, the sandbox container at last, and then its shim.
///
/// # Errors
/// What the shim said, or that it does not end. Then [`clean_up`] ends it.
pub(in crate::pod) async fn end(site: &Site, shim: &Shim, patience: Duration) -> Result<(), Fault> {
    let ended =
        containers(site).into_iter().map(|id| async move { over(shim, &id, patience).await });
    join_all(ended).await.into_iter().collect::<Result<(), _>>()?;
    over(shim, &site.id, patience).await?;
    shim.shutdown(&ids::of_container(&site.id)?, false).await?;
    let closed = tokio::time::timeout(patience, shim.closed()).await;
    closed.map_err(|_| Fault::DeadlineExceeded("the shim does not end".into()))
}

fn containers(site: &Site) -> Vec<String> {
    let now = site.node.records.now();
    let of_pod = now.containers.values().filter(|row| row.pod == site.id);
    of_pod.map(|row| row.id.clone()).collect()
}

/// Kills a container and lets the shim forget it.
async fn over(shim: &Shim, id: &str, patience: Duration) -> Result<(), Fault> {
    let target = site::init(id)?;
    shim.kill(&target, SIGKILL, true).await.or_else(missing)?;
    match tokio::time::timeout(patience, shim.wait(&target)).await {
        Ok(exit) => exit.map(drop).or_else(missing)?,
        Err(_) => {
            let text = format!("container {id} was killed and has not ended for {patience:?}");
            return Err(Fault::DeadlineExceeded(text));
        }
    }
    shim.delete(&target).await.map(drop).or_else(missing)?;
    Ok(())
}

/// What the shim does not have has ended.
fn missing(error: Error) -> Result<(), Error> {
    match error {
        Error::NotFound(_) => Ok(()),
        error => Err(error),
    }
}

/// Ends what is left of a pod by force: its shim, then each container by the runtime itself. It can
/// be repeated.
///
/// # Errors
/// What the runtime said.
pub(in crate::pod) async fn clean_up(site: &Site) -> Result<(), Fault> {
    if let Ok(shim) = Shim::reconnect(&site.bundle(), ANSWERS).await {
        kill(site, &shim).await;
    }
    let mut first = None;
    for id in containers(site).into_iter().chain([site.id.clone()]) {
        let bundle = site.node.places.bundle(&id);
        // The shim writes it for each container that it makes.
        if !bundle.join("runtime").exists() {
            continue;
        }
        if let Err(fault) = site.class.clean_up(&bundle, &id).await {
            log::warn!("container {id}: {fault}");
            first.get_or_insert(fault);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Kills the shim, which lives as long as its connection does.
async fn kill(site: &Site, shim: &Shim) {
    let pid = i32::try_from(shim.pid()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    log::warn!("pod {}: its shim, process {}, is killed", site.id, shim.pid());
    if let Err(error) = kill_process(pid, Signal::KILL) {
        log::warn!("pod {}: killing its shim: {error}", site.id);
    }
    let closed = tokio::time::timeout(ANSWERS, shim.closed()).await;
    closed.unwrap_or_else(|_| log::warn!("pod {}: its shim does not end", site.id));
}
