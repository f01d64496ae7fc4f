//! What is done for a pod's owner, beside it: an effect a file. Each tells the owner what happened
//! as it happens, so that a restart knows how far it came, and each can be done again.

mod create;
mod remove;
mod remove_pod;
mod restart;
mod start;
mod stop;
mod stop_pod;
mod update;

use std::time::Instant;

use tokio::sync::watch;

use super::fact::Rows;
use super::handle::{Answer, Ask, Pod};

pub(crate) use remove::{from_shim, remove_bundle, remove_directory, remove_files};
pub(crate) use stop::{ended, started};
pub(crate) use stop_pod::take_down;

/// Does what was asked for; `killed` tells a stop when its patience ends.
pub(crate) async fn run(
    pod: &Pod,
    rows: Rows,
    ask: Ask,
    killed: Option<watch::Receiver<Instant>>,
) -> Answer {
    match ask {
        Ask::Create(new) => create::run(pod, &rows, *new).await,
        Ask::Start(id) => start::run(pod, &id).await,
        Ask::Stop(id, _) => stop::run(pod, &rows, &id, killed).await,
        Ask::Restart(id) => restart::run(pod, &rows, &id).await,
        Ask::Remove(id) => remove::run(pod, &id).await,
        Ask::Update(id, limits) => update::container(pod, &rows, &id, *limits).await,
        Ask::Resize(limits) => update::pod(pod, *limits).await,
        Ask::StopPod | Ask::StopIdle => stop_pod::run(pod, &rows).await,
        Ask::RemovePod => remove_pod::run(pod, &rows).await,
    }
}
