//! Ends a container's process: by its own signal once, and by force when the patience is over.

use std::time::{Duration, Instant};

use api::events::SIGKILL;
use api::request::Target;
use shim_client::Shim;
use tokio::sync::watch;

use crate::fault::Fault;
use crate::pod::fact::{Fact, Rows};
use crate::pod::handle::{Answer, Pod};
use crate::pod::site;
use crate::restart;
use crate::row::{Container, ContainerPhase};

/// How long a process may take to be gone that was killed: its guest may have much to write.
const KILL_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(
    pod: &Pod,
    rows: &Rows,
    id: &str,
    killed: Option<watch::Receiver<Instant>>,
) -> Answer {
    if rows.row(id).is_some_and(restart::has_policy) {
        pod.tell(Fact::Stopped(id.to_owned())).await?;
    }
    if !rows.row(id).is_some_and(Container::lives) {
        return Ok(id.to_owned());
    }
    let shim = pod.site.shim()?;
    let target = site::init(id)?;
    if let Some(mut killed) = killed {
        let patient = *killed.borrow() > Instant::now();
        if patient {
            let signal = rows.row(id).map_or(0, |row| row.stop_signal);
            signalled(&shim, &target, signal, false).await?;
        }
        tokio::select! {
            ended = ended(pod, id) => return ended.map(|()| id.to_owned()),
            () = passed(&mut killed) => {}
        }
    }
    kill(pod, id).await?;
    Ok(id.to_owned())
}

/// Kills all of a container and waits until its end is on record.
///
/// # Errors
/// What the shim answered, or that the container lives on.
pub(super) async fn kill(pod: &Pod, id: &str) -> Result<(), Fault> {
    let shim = pod.site.shim()?;
    let target = site::init(id)?;
    signalled(&shim, &target, SIGKILL, true).await?;
    let ended = tokio::time::timeout(KILL_LIMIT, ended(pod, id)).await;
    ended.map_err(|_| {
        let text = format!("container {id} was killed and has not ended for {KILL_LIMIT:?}");
        Fault::DeadlineExceeded(text)
    })?
}

/// Sends a signal, to all of its container if it is for `all`. A process that has ended needs none.
async fn signalled(shim: &Shim, target: &Target, signal: u32, all: bool) -> Result<(), Fault> {
    match shim.kill(target, signal, all).await {
        Ok(()) | Err(shim_client::Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until a container's end is on record.
///
/// # Errors
/// That the daemon ends.
pub(crate) async fn ended(pod: &Pod, id: &str) -> Result<(), Fault> {
    let mut changes = pod.site.node.records.changes();
    let over = |row: &Container| row.finished_at != 0 || row.phase() >= ContainerPhase::Exited;
    let ended = changes.wait_for(|now| now.containers.get(id).is_none_or(|row| over(row))).await;
    ended.map(drop).map_err(|_| Fault::Unavailable("cuddyd ends".into()))
}

/// Waits until a container's process runs, or has ended.
///
/// # Errors
/// That the daemon ends.
pub(crate) async fn started(pod: &Pod, id: &str) -> Result<(), Fault> {
    let mut changes = pod.site.node.records.changes();
    let begun = |row: &Container| row.phase() >= ContainerPhase::Running;
    let started = changes.wait_for(|now| now.containers.get(id).is_none_or(|row| begun(row))).await;
    started.map(drop).map_err(|_| Fault::Unavailable("cuddyd ends".into()))
}

/// Waits until the moment has passed, which may be brought forward meanwhile.
async fn passed(moment: &mut watch::Receiver<Instant>) {
    loop {
        let at = *moment.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => return,
            Ok(()) = moment.changed() => {}
        }
    }
}
