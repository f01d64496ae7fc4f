//! Events to containerd's event socket, in order. The socket may be away for a while, so events
//! wait in a bounded queue, and each is tried several times. An event that can't be delivered is
//! dropped, with a line in the log. Without an address (CRI-O) no event is delivered; see
//! [`OomFiles`].

use std::time::{Duration, SystemTime};

use api::events::{Event, EventKind};
use api::request::{Mount, StdioPaths};
use api::{Error, Namespace};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::EventsClient;
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;
use tokio::sync::{mpsc, oneshot};
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::context;

use crate::convert::{self, any};
use crate::oom_file::OomFiles;

/// Events that may wait.
pub(crate) const QUEUE: usize = 2048;

/// Deadline of one delivery.
const DELIVERY: Duration = Duration::from_secs(5);

/// Attempts at one event; the n-th failure is followed by n seconds of patience.
const ATTEMPTS: u32 = 5;

/// The task that delivers.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Where to; empty: nowhere.
    pub(crate) address: String,
    /// On whose behalf.
    pub(crate) namespace: Namespace,
    /// What.
    pub(crate) events: mpsc::Receiver<Event>,
}

impl Publisher {
    /// Delivers until `end` is told and the queue is empty.
    pub(crate) async fn run(mut self, mut end: oneshot::Receiver<()>) {
        let mut client = None;
        let mut open = true;
        let mut oom_files = OomFiles::default();
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                _ = &mut end, if open => {
                    open = false;
                    self.events.close();
                    continue;
                }
            };
            let Some(event) = event else { return };
            if self.address.is_empty() {
                oom_files.observe(&event);
                continue;
            }
            // Patience ends with the sandbox: containerd may be away for good.
            let attempts = if open { ATTEMPTS } else { 1 };
            self.deliver(&mut client, event, attempts).await;
        }
    }

    async fn deliver(&self, client: &mut Option<EventsClient>, event: Event, attempts: u32) {
        let request = match envelope(&self.namespace, event) {
            Ok(request) => request,
            Err(error) => return log::error!("{error}"),
        };
        for attempt in 1..=attempts {
            let Err(error) = self.forward(client, &request).await else { return };
            *client = None;
            log::warn!("publishing {}: {error}", request.envelope.topic);
            if attempt < attempts {
                tokio::time::sleep(Duration::from_secs(attempt.into())).await;
            }
        }
        log::error!("event {} is lost", request.envelope.topic);
    }

    async fn forward(
        &self,
        client: &mut Option<EventsClient>,
        request: &ForwardRequest,
    ) -> Result<(), ttrpc::Error> {
        let open = match client.take() {
            Some(open) => open,
            None => {
                let path = self.address.strip_prefix("unix://").unwrap_or(&self.address);
                let stream = tokio::net::UnixStream::connect(path).await;
                let stream = stream.map_err(|error| ttrpc::Error::Socket(error.to_string()))?;
                EventsClient::new(Client::new(Socket::new(stream)))
            }
        };
        open.forward(context::with_duration(DELIVERY), request).await?;
        *client = Some(open);
        Ok(())
    }
}

fn envelope(namespace: &Namespace, event: Event) -> Result<ForwardRequest, Error> {
    let (topic, any) = message(event)?;
    let envelope = Envelope {
        timestamp: convert::timestamp(SystemTime::now()).into(),
        namespace: namespace.to_string(),
        topic: topic.to_owned(),
        event: MessageField::some(any),
        ..Envelope::default()
    };
    Ok(ForwardRequest { envelope: MessageField::some(envelope), ..ForwardRequest::default() })
}

fn message(event: Event) -> Result<(&'static str, Any), Error> {
    let container_id = event.container.to_string();
    match event.kind {
        EventKind::Created { bundle, rootfs, stdio, pid } => {
            let message = create_message(container_id, bundle, rootfs, stdio, pid);
            Ok(("/tasks/create", any("containerd.events.TaskCreate", &message)?))
        }
        EventKind::Started { pid } => {
            let message = TaskStart { container_id, pid, ..TaskStart::default() };
            Ok(("/tasks/start", any("containerd.events.TaskStart", &message)?))
        }
        EventKind::OutOfMemory => {
            let message = TaskOOM { container_id, ..TaskOOM::default() };
            Ok(("/tasks/oom", any("containerd.events.TaskOOM", &message)?))
        }
        EventKind::Exited { exec, pid, exit } => {
            let message = TaskExit {
                id: exec.map_or_else(|| container_id.clone(), |exec| exec.to_string()),
                container_id,
                pid,
                exit_status: exit.status,
                exited_at: convert::timestamp(exit.at).into(),
                ..TaskExit::default()
            };
            Ok(("/tasks/exit", any("containerd.events.TaskExit", &message)?))
        }
        EventKind::Deleted { pid, exit } => {
            let message = TaskDelete {
                container_id,
                pid,
                exit_status: exit.status,
                exited_at: convert::timestamp(exit.at).into(),
                ..TaskDelete::default()
            };
            Ok(("/tasks/delete", any("containerd.events.TaskDelete", &message)?))
        }
        EventKind::ExecAdded { exec } => {
            let exec_id = exec.to_string();
            let message = TaskExecAdded { container_id, exec_id, ..TaskExecAdded::default() };
            Ok(("/tasks/exec-added", any("containerd.events.TaskExecAdded", &message)?))
        }
        EventKind::ExecStarted { exec, pid } => {
            let exec_id = exec.to_string();
            let message =
                TaskExecStarted { container_id, exec_id, pid, ..TaskExecStarted::default() };
            Ok(("/tasks/exec-started", any("containerd.events.TaskExecStarted", &message)?))
        }
        EventKind::Paused => {
            let message = TaskPaused { container_id, ..TaskPaused::default() };
            Ok(("/tasks/paused", any("containerd.events.TaskPaused", &message)?))
        }
        EventKind::Resumed => {
            let message = TaskResumed { container_id, ..TaskResumed::default() };
            Ok(("/tasks/resumed", any("containerd.events.TaskResumed", &message)?))
        }
    }
}

fn create_message(
    container_id: String,
    bundle: String,
    rootfs: Vec<Mount>,
    stdio: StdioPaths,
    pid: u32,
) -> TaskCreate {
    let StdioPaths { stdin, stdout, stderr, terminal } = stdio;
    let io = TaskIO { stdin, stdout, stderr, terminal, ..TaskIO::default() };
    TaskCreate {
        container_id,
        bundle,
        rootfs: rootfs.into_iter().map(convert::rpc_mount).collect(),
        io: MessageField::some(io),
        pid,
        ..TaskCreate::default()
    }
}

#[cfg(test)]
mod tests {
    use api::events::Exit;
    use api::{ContainerId, ExecId};
    use protobuf::Message;

    use super::*;

    fn event(kind: EventKind) -> Event {
        Event { container: ContainerId::new("web").unwrap(), kind }
    }

    #[test]
    fn exit_of_an_exec_carries_its_own_id() {
        let exit = Exit { status: 3, at: SystemTime::UNIX_EPOCH };
        let exec = Some(ExecId::new("sh").unwrap());
        let (topic, any) = message(event(EventKind::Exited { exec, pid: 4, exit })).unwrap();
        assert_eq!((topic, any.type_url.as_str()), ("/tasks/exit", "containerd.events.TaskExit"));
        let exit_of_exec = TaskExit::parse_from_bytes(&any.value).unwrap();
        assert_eq!((exit_of_exec.id.as_str(), exit_of_exec.exit_status), ("sh", 3));
        let (_, any) = message(event(EventKind::Exited { exec: None, pid: 4, exit })).unwrap();
        assert_eq!(TaskExit::parse_from_bytes(&any.value).unwrap().id, "web");
    }

    #[tokio::test]
    async fn without_an_address_events_are_taken_and_forgotten() {
        let (sender, events) = mpsc::channel(2);
        let namespace = Namespace::new("ns").unwrap();
        let publisher = Publisher { address: String::new(), namespace, events };
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(publisher.run(ended));
        for _ in 0..10 {
            sender.send(event(EventKind::OutOfMemory)).await.unwrap();
        }
        end.send(()).unwrap();
        task.await.unwrap();
    }
}
