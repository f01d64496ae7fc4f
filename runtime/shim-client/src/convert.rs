//! Messages of shims ↔ the words of this crate and of `api` (pure).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::events::Exit;
use api::request::{Mount, StdioPaths};
use api::usage::Census;
use api::{ContainerId, IdError};
use containerd_shim_protos::api::{StateResponse, Status as RpcStatus};
use containerd_shim_protos::types::mount::Mount as RpcMount;
use protobuf::MessageField;
use protobuf::well_known_types::any::Any as RpcAny;
use protobuf::well_known_types::timestamp::Timestamp;
use protocol::shim::{Container, Status as OwnStatus};

use crate::words::{Any, Listed, ProcessState, Status};

/// The last second that a timestamp can mean (protobuf's `timestamp.proto`): the end of 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// A point in time, unless it is missing, nonsense, or before 1970 as Go's zero time is.
pub(crate) fn time(time: &MessageField<Timestamp>) -> Option<SystemTime> {
    let time = time.as_ref()?;
    let seconds =
        u64::try_from(time.seconds).ok().filter(|seconds| (1..=LAST_SECOND).contains(seconds))?;
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// How and when a process ended. It has ended by now, so a shim that does not say when means now.
pub(crate) fn exit(status: u32, at: &MessageField<Timestamp>) -> Exit {
    Exit { status, at: time(at).unwrap_or_else(SystemTime::now) }
}

/// A message of another type.
pub(crate) fn any(any: RpcAny) -> Any {
    Any { type_url: any.type_url, value: any.value }
}

/// The other way round.
pub(crate) fn rpc_any(any: &Any) -> RpcAny {
    let Any { type_url, value } = any.clone();
    RpcAny { type_url, value, ..RpcAny::default() }
}

/// Part of a message that need not be there.
pub(crate) fn rpc_option(any: Option<&Any>) -> MessageField<RpcAny> {
    MessageField::from_option(any.map(rpc_any))
}

/// JSON under the name of its type.
pub(crate) fn rpc_json(type_url: &str, json: &serde_json::Value) -> MessageField<RpcAny> {
    let (type_url, value) = (type_url.to_owned(), json.to_string().into_bytes());
    MessageField::some(RpcAny { type_url, value, ..RpcAny::default() })
}

/// A mount.
pub(crate) fn mount(mount: RpcMount) -> Mount {
    let RpcMount { type_, source, target, options, .. } = mount;
    Mount { fstype: type_, source, target, options }
}

/// The other way round.
pub(crate) fn rpc_mount(mount: &Mount) -> RpcMount {
    let Mount { fstype, source, target, options } = mount.clone();
    RpcMount { type_: fstype, source, target, options, ..RpcMount::default() }
}

/// How a process is.
pub(crate) fn state(state: StateResponse) -> ProcessState {
    let status = match state.status.enum_value_or_default() {
        RpcStatus::CREATED => Status::Created,
        RpcStatus::RUNNING => Status::Running,
        RpcStatus::PAUSING => Status::Pausing,
        RpcStatus::PAUSED => Status::Paused,
        RpcStatus::STOPPED => Status::Stopped(exit(state.exit_status, &state.exited_at)),
        RpcStatus::UNKNOWN => Status::Unknown,
    };
    let StateResponse { stdin, stdout, stderr, terminal, .. } = state;
    let stdio = StdioPaths { stdin, stdout, stderr, terminal };
    ProcessState { bundle: state.bundle.into(), pid: state.pid, status, stdio }
}

/// A container of our own shim.
///
/// # Errors
/// When its name can't be one.
pub(crate) fn listed(container: Container) -> Result<Listed, IdError> {
    let status = match container.status.enum_value_or_default() {
        OwnStatus::STATUS_CREATED => Status::Created,
        OwnStatus::STATUS_RUNNING => Status::Running,
        OwnStatus::STATUS_PAUSED => Status::Paused,
        OwnStatus::STATUS_STOPPED => {
            Status::Stopped(exit(container.exit_status, &container.exited_at))
        }
        OwnStatus::STATUS_UNSPECIFIED => Status::Unknown,
    };
    let (id, created_at) = (ContainerId::new(&container.id)?, time(&container.created_at));
    let Container { stdin, stdout, stderr, terminal, .. } = container;
    let stdio = StdioPaths { stdin, stdout, stderr, terminal };
    let bundle = container.bundle.into();
    let init = ProcessState { bundle, pid: container.pid, status, stdio };
    let out_of_memory = container.out_of_memory;
    let user = container.user.into_option();
    let user = user.map(|user| api::User { uid: user.uid, gid: user.gid, groups: user.groups });
    Ok(Listed { id, pod: container.pod, created_at, init, out_of_memory, user })
}

/// What an agent counted.
pub(crate) fn census(of: &protocol::shim::Census) -> Census {
    Census {
        processes: of.processes,
        file_descriptors: of.file_descriptors,
        sockets: of.sockets,
        open_files_limit: of.open_files_limit,
        root_bytes: of.root_bytes,
        root_inodes: of.root_inodes,
        root_inodes_free: of.root_inodes_free,
    }
}

#[cfg(test)]
mod tests {
    use protobuf::EnumOrUnknown;

    use super::*;

    fn timestamp(seconds: i64, nanos: i32) -> MessageField<Timestamp> {
        MessageField::some(Timestamp { seconds, nanos, ..Timestamp::default() })
    }

    #[test]
    fn times_that_make_no_sense_are_none() {
        assert_eq!(time(&timestamp(5, 7)), Some(UNIX_EPOCH + Duration::new(5, 7)));
        let bad = [(0, 0), (-62_135_596_800, 0), (1, -1), (1, 1_000_000_000), (i64::MAX, 0)];
        for (seconds, nanos) in bad {
            assert_eq!(time(&timestamp(seconds, nanos)), None, "{seconds} {nanos}");
        }
        assert_eq!(time(&MessageField::none()), None);
        let before = SystemTime::now();
        assert!(exit(1, &timestamp(-62_135_596_800, 0)).at >= before);
    }

    #[test]
    fn state_of_a_process_keeps_what_was_given() {
        let response = |status| StateResponse {
            bundle: "/b".into(),
            pid: 7,
            status,
            stdout: "file:///log".into(),
            terminal: true,
            exit_status: 143,
            exited_at: timestamp(5, 0),
            ..StateResponse::default()
        };
        let running = state(response(EnumOrUnknown::new(RpcStatus::RUNNING)));
        assert_eq!((running.status, running.pid), (Status::Running, 7));
        assert_eq!((running.stdio.stdout.as_str(), running.stdio.terminal), ("file:///log", true));
        let stopped = state(response(EnumOrUnknown::new(RpcStatus::STOPPED)));
        let at = UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(stopped.status, Status::Stopped(Exit { status: 143, at }));
        let news = state(response(EnumOrUnknown::from_i32(99)));
        assert_eq!(news.status, Status::Unknown);
    }
}
