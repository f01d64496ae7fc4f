//! What foreign shims publish. Only one thing of it is asked for: whether memory ran out. systemd
//! removes a container's cgroup with its last process, and then nobody else knows.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use api::events::{Event, EventKind};
use shim_client::events::{Events, News as Told, Published};
use tokio::sync::{mpsc, watch};

use crate::fault::Fault;

/// Events that may wait.
const WAITING: usize = 64;

/// How long the event of an end that is known may take. A shim publishes in order, so what came
/// before that end was told before it.
const LATE: Duration = Duration::from_secs(2);

/// What was heard of containers that were not deleted yet, by their ids.
#[derive(Debug, Default)]
struct Heard {
    out_of_memory: BTreeSet<String>,
    ended: BTreeSet<String>,
}

/// The news; cheap to clone. There are none where there is no foreign handler.
#[derive(Debug, Clone, Default)]
pub(crate) struct News(Option<watch::Receiver<Heard>>);

impl News {
    /// Takes events on `socket` from now on.
    ///
    /// # Errors
    /// [`Fault`] with what the kernel answered.
    pub(crate) async fn serve(socket: &Path) -> Result<Self, Fault> {
        let (sender, events) = mpsc::channel(WAITING);
        let server = Events::serve(socket, sender).await?;
        let (heard, news) = watch::channel(Heard::default());
        tokio::spawn(listen(server, events, heard));
        Ok(Self(Some(news)))
    }

    /// Whether the kernel killed a process of a container, which has ended, for want of memory.
    pub(crate) async fn out_of_memory(&self, id: &str) -> bool {
        let Some(mut news) = self.0.clone() else { return false };
        let told = news.wait_for(|heard| heard.ended.contains(id));
        // A daemon that was away may never be told.
        drop(tokio::time::timeout(LATE, told).await);
        news.borrow().out_of_memory.contains(id)
    }
}

/// The server ends with the daemon.
async fn listen(
    _server: Events,
    mut events: mpsc::Receiver<Published>,
    heard: watch::Sender<Heard>,
) {
    while let Some(Published { news, .. }) = events.recv().await {
        if let Told::Event(event) = news {
            heard.send_if_modified(|heard| hear(heard, event));
        }
    }
}

/// Takes an event; whether it says something (pure).
fn hear(heard: &mut Heard, event: Event) -> bool {
    let id = event.container.to_string();
    match event.kind {
        EventKind::OutOfMemory => heard.out_of_memory.insert(id),
        EventKind::Exited { exec: None, .. } => heard.ended.insert(id),
        EventKind::Deleted { .. } => heard.out_of_memory.remove(&id) | heard.ended.remove(&id),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use api::ContainerId;
    use api::events::Exit;

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event { container: ContainerId::new("c").unwrap(), kind }
    }

    fn exit() -> Exit {
        Exit { status: 137, at: std::time::SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn want_of_memory_is_known_until_its_container_is_gone() {
        let mut heard = Heard::default();
        assert!(!hear(&mut heard, event(EventKind::Started { pid: 1 })));
        assert!(hear(&mut heard, event(EventKind::OutOfMemory)));
        assert!(!hear(&mut heard, event(EventKind::OutOfMemory)));
        assert!(hear(&mut heard, event(EventKind::Exited { exec: None, pid: 1, exit: exit() })));
        assert!(heard.out_of_memory.contains("c") && heard.ended.contains("c"));
        assert!(hear(&mut heard, event(EventKind::Deleted { pid: 1, exit: exit() })));
        assert!(heard.out_of_memory.is_empty() && heard.ended.is_empty());
    }
}
