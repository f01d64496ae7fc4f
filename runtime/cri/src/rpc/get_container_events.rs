//! GetContainerEvents: what happens from now on, with the pod as it is then.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::cri::{ContainerEventResponse, GetEventsRequest};
use tokio::sync::watch;
use tonic::Request;

use super::pages::Pages;
use super::{container_status, pod_sandbox_status};
use crate::clock;
use crate::events::{self, Event};
use crate::fault::Fault;
use crate::pods::Pods;
use crate::snapshot::Snapshot;

/// A client, and what it has not been told yet.
struct Client {
    changes: watch::Receiver<Arc<Snapshot>>,
    seen: Arc<Snapshot>,
    waiting: VecDeque<Event>,
}

impl Client {
    /// The next event; none when the daemon ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            self.changes.changed().await.ok()?;
            let now = Arc::clone(&self.changes.borrow_and_update());
            self.waiting = events::between(&self.seen, &now).into();
            self.seen = now;
        }
    }

    fn response(&self, event: &Event) -> ContainerEventResponse {
        let containers = self.seen.containers_of(&event.pod.id);
        ContainerEventResponse {
            container_id: event.id.clone(),
            container_event_type: event.kind.into(),
            created_at: clock::now(),
            pod_sandbox_status: Some(pod_sandbox_status::status(&event.pod)),
            containers_statuses: containers.map(|row| container_status::status(row)).collect(),
        }
    }
}

pub(super) async fn run(
    pods: &Arc<Pods>,
    _: Request<GetEventsRequest>,
) -> Result<Pages<ContainerEventResponse>, Fault> {
    let mut changes = pods.node.records.changes();
    let seen = Arc::clone(&changes.borrow_and_update());
    let client = Client { changes, seen, waiting: VecDeque::new() };
    let stream = futures::stream::unfold(client, |mut client| async {
        let event = client.next().await?;
        let response = client.response(&event);
        Some((Ok(response), client))
    });
    Ok(Box::pin(stream))
}
