//! What a shim publishes, as it arrives (pure).

use std::time::SystemTime;

use api::events::{Event, EventKind};
use api::request::StdioPaths;
use api::{ContainerId, ExecId};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::shim::event::Envelope;
use protobuf::Message;
use protobuf::well_known_types::any::Any as RpcAny;

use crate::convert;
use crate::words::Any;

/// Something that a shim tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Namespace of the container.
    pub namespace: String,
    /// When it was told.
    pub at: SystemTime,
    /// What is told.
    pub news: News,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something of a container.
    Event(Event),
    /// Something that this program has no word for, as it came.
    Other {
        /// Kind of it, as `/tasks/checkpointed`.
        topic: String,
        /// The message.
        message: Any,
    },
}

impl Published {
    /// Takes an envelope. What does not parse is handed on as it came.
    pub(crate) fn new(envelope: Envelope) -> Self {
        let Envelope { timestamp, namespace, topic, event, .. } = envelope;
        let message = event.into_option().unwrap_or_default();
        let news = match event_of(&topic, &message) {
            Some(event) => News::Event(event),
            None => News::Other { topic, message: convert::any(message) },
        };
        Self { namespace, at: convert::time(&timestamp).unwrap_or_else(SystemTime::now), news }
    }
}

fn event_of(topic: &str, any: &RpcAny) -> Option<Event> {
    let (id, kind) = match topic {
        "/tasks/create" => created(parse(any)?),
        "/tasks/start" => {
            let TaskStart { container_id, pid, .. } = parse(any)?;
            (container_id, EventKind::Started { pid })
        }
        "/tasks/oom" => (parse::<TaskOOM>(any)?.container_id, EventKind::OutOfMemory),
        "/tasks/exit" => exited(parse(any)?)?,
        "/tasks/delete" => deleted(parse(any)?)?,
        "/tasks/exec-added" => {
            let TaskExecAdded { container_id, exec_id, .. } = parse(any)?;
            (container_id, EventKind::ExecAdded { exec: ExecId::new(&exec_id).ok()? })
        }
        "/tasks/exec-started" => {
            let TaskExecStarted { container_id, exec_id, pid, .. } = parse(any)?;
            (container_id, EventKind::ExecStarted { exec: ExecId::new(&exec_id).ok()?, pid })
        }
        "/tasks/paused" => (parse::<TaskPaused>(any)?.container_id, EventKind::Paused),
        "/tasks/resumed" => (parse::<TaskResumed>(any)?.container_id, EventKind::Resumed),
        _ => return None,
    };
    Some(Event { container: ContainerId::new(&id).ok()?, kind })
}

/// The message in an event, if it is of the type that its topic promises.
fn parse<T: Message>(any: &RpcAny) -> Option<T> {
    // Go's libraries have the bare name, others one with a host before it.
    let name = any.type_url.rsplit('/').next()?.strip_prefix("containerd.events.")?;
    if name == T::NAME { T::parse_from_bytes(&any.value).ok() } else { None }
}

fn created(message: TaskCreate) -> (String, EventKind) {
    let TaskCreate { container_id, bundle, rootfs, io, pid, .. } = message;
    let TaskIO { stdin, stdout, stderr, terminal, .. } = io.into_option().unwrap_or_default();
    let stdio = StdioPaths { stdin, stdout, stderr, terminal };
    let rootfs = rootfs.into_iter().map(convert::mount).collect();
    (container_id, EventKind::Created { bundle, rootfs, stdio, pid })
}

fn exited(message: TaskExit) -> Option<(String, EventKind)> {
    let TaskExit { container_id, id, pid, exit_status, exited_at, .. } = message;
    // Init has its container's name.
    let exec = if id == container_id { None } else { Some(ExecId::new(&id).ok()?) };
    let exit = convert::exit(exit_status, &exited_at);
    Some((container_id, EventKind::Exited { exec, pid, exit }))
}

/// The container's end, unless it is that of one of its execs, of which some shims tell under the
/// same topic.
fn deleted(message: TaskDelete) -> Option<(String, EventKind)> {
    let TaskDelete { container_id, id, pid, exit_status, exited_at, .. } = message;
    let exit = convert::exit(exit_status, &exited_at);
    (id.is_empty() || id == container_id)
        .then_some((container_id, EventKind::Deleted { pid, exit }))
}

#[cfg(test)]
mod tests;
