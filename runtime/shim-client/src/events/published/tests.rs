//! What becomes of each event, and of what is none.

use std::time::{Duration, UNIX_EPOCH};

use api::events::Exit;
use api::request::Mount;
use containerd_shim_protos::types::mount::Mount as RpcMount;
use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp;

use super::*;

fn at(seconds: i64) -> MessageField<Timestamp> {
    MessageField::some(Timestamp { seconds, ..Timestamp::default() })
}

fn news<T: Message>(topic: &str, message: &T) -> News {
    let event = RpcAny {
        type_url: format!("containerd.events.{}", T::NAME),
        value: message.write_to_bytes().unwrap(),
        ..RpcAny::default()
    };
    let envelope = Envelope {
        timestamp: at(9),
        namespace: "k8s.io".into(),
        topic: topic.into(),
        event: MessageField::some(event),
        ..Envelope::default()
    };
    let published = Published::new(envelope);
    assert_eq!(published.namespace, "k8s.io");
    assert_eq!(published.at, UNIX_EPOCH + Duration::from_secs(9));
    published.news
}

fn kind<T: Message>(topic: &str, message: &T) -> EventKind {
    match news(topic, message) {
        News::Event(event) => {
            assert_eq!(event.container.as_str(), "web");
            event.kind
        }
        other => panic!("{other:?}"),
    }
}

fn web() -> String {
    "web".to_owned()
}

fn exec(name: &str) -> ExecId {
    ExecId::new(name).unwrap()
}

#[test]
fn life_of_a_container_is_told_in_words() {
    let mount = RpcMount { type_: "bind".into(), source: "/r".into(), ..RpcMount::default() };
    let create = TaskCreate {
        container_id: web(),
        bundle: "/b".into(),
        rootfs: vec![mount],
        io: MessageField::some(TaskIO { stdout: "/f".into(), terminal: true, ..TaskIO::default() }),
        pid: 7,
        ..TaskCreate::default()
    };
    let rootfs = vec![Mount { fstype: "bind".into(), source: "/r".into(), ..Mount::default() }];
    let stdio = StdioPaths { stdout: "/f".into(), terminal: true, ..StdioPaths::default() };
    let created = EventKind::Created { bundle: "/b".into(), rootfs, stdio, pid: 7 };
    assert_eq!(kind("/tasks/create", &create), created);
    let start = TaskStart { container_id: web(), pid: 7, ..TaskStart::default() };
    assert_eq!(kind("/tasks/start", &start), EventKind::Started { pid: 7 });
    let oom = TaskOOM { container_id: web(), ..TaskOOM::default() };
    assert_eq!(kind("/tasks/oom", &oom), EventKind::OutOfMemory);
    let paused = TaskPaused { container_id: web(), ..TaskPaused::default() };
    assert_eq!(kind("/tasks/paused", &paused), EventKind::Paused);
    let resumed = TaskResumed { container_id: web(), ..TaskResumed::default() };
    assert_eq!(kind("/tasks/resumed", &resumed), EventKind::Resumed);
    let added =
        TaskExecAdded { container_id: web(), exec_id: "sh".into(), ..TaskExecAdded::default() };
    assert_eq!(kind("/tasks/exec-added", &added), EventKind::ExecAdded { exec: exec("sh") });
    let started = TaskExecStarted {
        container_id: web(),
        exec_id: "sh".into(),
        pid: 8,
        ..TaskExecStarted::default()
    };
    let expected = EventKind::ExecStarted { exec: exec("sh"), pid: 8 };
    assert_eq!(kind("/tasks/exec-started", &started), expected);
}

#[test]
fn end_of_an_exec_is_not_its_containers() {
    let exit = Exit { status: 3, at: UNIX_EPOCH + Duration::from_secs(5) };
    let ended = |id: &str| TaskExit {
        container_id: web(),
        id: id.into(),
        pid: 7,
        exit_status: 3,
        exited_at: at(5),
        ..TaskExit::default()
    };
    let exited = |exec| EventKind::Exited { exec, pid: 7, exit };
    assert_eq!(kind("/tasks/exit", &ended("web")), exited(None));
    assert_eq!(kind("/tasks/exit", &ended("sh")), exited(Some(exec("sh"))));
    let gone = |id: &str| TaskDelete {
        container_id: web(),
        id: id.into(),
        pid: 7,
        exit_status: 3,
        exited_at: at(5),
        ..TaskDelete::default()
    };
    let deleted = EventKind::Deleted { pid: 7, exit };
    assert_eq!(kind("/tasks/delete", &gone("")), deleted);
    assert_eq!(kind("/tasks/delete", &gone("web")), deleted);
    assert!(matches!(news("/tasks/delete", &gone("sh")), News::Other { .. }));
}

#[test]
fn what_is_no_event_of_a_container_is_kept_as_it_came() {
    let start = |id: &str| TaskStart { container_id: id.into(), ..TaskStart::default() };
    let kept = |topic: &str, news: News| {
        let News::Other { topic: told, message } = news else { panic!("{news:?}") };
        assert_eq!((told.as_str(), message.type_url.is_empty()), (topic, false));
    };
    kept("/tasks/checkpointed", news("/tasks/checkpointed", &start("web")));
    kept("/tasks/exit", news("/tasks/exit", &start("web")));
    kept("/tasks/start", news("/tasks/start", &start("../web")));
    let nameless = TaskExecAdded { container_id: web(), ..TaskExecAdded::default() };
    kept("/tasks/exec-added", news("/tasks/exec-added", &nameless));
    let empty = Published::new(Envelope::default());
    assert!(matches!(empty.news, News::Other { .. }));
}
