//! containerd's messages ↔ the sandbox's types (pure).

use std::time::{SystemTime, UNIX_EPOCH};

use api::request::{CreateRequest, Mount, StdioPaths, Target};
use api::{ContainerId, Error, ExecId};
use containerd_shim_protos::api::{CreateTaskRequest, StateResponse, Status as RpcStatus};
use containerd_shim_protos::types::mount::Mount as RpcMount;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{EnumOrUnknown, Message, MessageField};
use sandbox::container::{ProcessView, Status};

/// A point in time; before 1970 counts as 1970.
pub(crate) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanos: i32::try_from(since.subsec_nanos()).ok()?,
        ..Timestamp::default()
    })
}

/// A process by the names of a request; an empty `exec` means init.
pub(crate) fn target(container: &str, exec: &str) -> Result<Target, Error> {
    let exec = if exec.is_empty() { None } else { Some(ExecId::new(exec)?) };
    Ok(Target { container: ContainerId::new(container)?, exec })
}

/// What to create.
pub(crate) fn create(request: CreateTaskRequest) -> Result<CreateRequest, Error> {
    if !request.checkpoint.is_empty() {
        return Err(Error::Unimplemented("restoring from a checkpoint"));
    }
    Ok(CreateRequest {
        id: ContainerId::new(&request.id)?,
        bundle: request.bundle.into(),
        rootfs: request.rootfs.into_iter().map(mount).collect(),
        stdio: StdioPaths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        },
    })
}

fn mount(mount: RpcMount) -> Mount {
    let RpcMount { type_, source, target, options, .. } = mount;
    Mount { fstype: type_, source, target, options }
}

/// The other way round.
pub(crate) fn rpc_mount(mount: Mount) -> RpcMount {
    let Mount { fstype, source, target, options } = mount;
    RpcMount { type_: fstype, source, target, options, ..RpcMount::default() }
}

/// A message in an `Any`, under its bare name as Go's containerd has it.
pub(crate) fn any(name: &str, message: &impl Message) -> Result<Any, Error> {
    let value = message.write_to_bytes();
    let value = value.map_err(|error| Error::failed("encoding a message", &error))?;
    Ok(Any { type_url: name.to_owned(), value, ..Any::default() })
}

/// JSON out of an `Any`, whatever its type says.
pub(crate) fn json(any: &MessageField<Any>, what: &str) -> Result<serde_json::Value, Error> {
    serde_json::from_slice(&any.value)
        .map_err(|error| Error::Invalid(format!("{what} is not JSON: {error}")))
}

/// How a process is.
pub(crate) fn state(target: &Target, view: ProcessView) -> StateResponse {
    let (status, exit) = match view.status {
        Status::Created => (RpcStatus::CREATED, None),
        Status::Running => (RpcStatus::RUNNING, None),
        Status::Paused => (RpcStatus::PAUSED, None),
        Status::Stopped(exit) => (RpcStatus::STOPPED, Some(exit)),
    };
    StateResponse {
        id: target.container.to_string(),
        exec_id: target.exec.as_ref().map(ToString::to_string).unwrap_or_default(),
        bundle: view.bundle,
        pid: view.pid,
        status: EnumOrUnknown::new(status),
        stdin: view.stdio.stdin,
        stdout: view.stdio.stdout,
        stderr: view.stdio.stderr,
        terminal: view.stdio.terminal,
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: exit.and_then(|exit| timestamp(exit.at)).into(),
        ..StateResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::events::Exit;

    use super::*;

    #[test]
    fn paths_come_back_from_state_as_they_were_given() {
        let request = CreateTaskRequest {
            id: "web".into(),
            bundle: "/b".into(),
            stdin: "/f/in".into(),
            stdout: "binary:///log?a=b".into(),
            terminal: true,
            ..CreateTaskRequest::default()
        };
        let created = create(request).unwrap();
        let exit = Exit { status: 143, at: UNIX_EPOCH + Duration::new(5, 7) };
        let view = ProcessView {
            bundle: "/b".into(),
            pid: 9,
            created: UNIX_EPOCH,
            status: Status::Stopped(exit),
            stdio: created.stdio,
        };
        let state = state(&target("web", "").unwrap(), view);
        assert_eq!((state.stdin.as_str(), state.stdout.as_str()), ("/f/in", "binary:///log?a=b"));
        assert!(state.terminal);
        assert_eq!(
            (state.exit_status, state.exited_at.seconds, state.exited_at.nanos),
            (143, 5, 7)
        );
        assert_eq!(state.status.enum_value().unwrap(), RpcStatus::STOPPED);
    }

    #[test]
    fn ids_that_are_paths_are_refused() {
        assert!(matches!(target("../x", ""), Err(Error::Invalid(_))));
        assert!(matches!(target("x", "a/b"), Err(Error::Invalid(_))));
        assert_eq!(target("x", "").unwrap().exec, None);
    }
}
