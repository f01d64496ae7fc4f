//! Starts of containers again, as their policy says.

use std::time::Duration;

use tokio::time::timeout;

use super::handle::{Ask, Pod};
use crate::clock;
use crate::restart;
use crate::snapshot::Snapshot;

/// Pause after a start that was refused.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a container's process again when it is due, for as long as that fails. It returns at once
/// when the container is to stay as it is.
pub(crate) async fn again(pod: &Pod, id: &str) {
    let mut last = 0;
    let mut changes = pod.site.node.records.changes();
    while let Some(due) = due(pod, &pod.site.node.records.now(), id) {
        let delay = u64::try_from(due.saturating_sub(clock::now())).unwrap_or_default();
        // One that was refused, and not tried, is due since then.
        let pause = if due == last { PAUSE } else { Duration::from_nanos(delay) };
        let changed = changes.wait_for(|now| self::due(pod, now, id) != Some(due));
        match timeout(pause, changed).await {
            Ok(Ok(_)) => continue,
            // The daemon ends.
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        match pod.ask(Ask::Restart(id.to_owned())).await {
            Ok(_) => return,
            Err(_) => last = due,
        }
    }
}

fn due(pod: &Pod, now: &Snapshot, id: &str) -> Option<i64> {
    restart::due(now.pods.get(&pod.site.id)?, now.containers.get(id)?)
}
