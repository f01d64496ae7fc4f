//! Calls to a shim that answers as the test says: in both versions, with errors, late, never, and
//! while its connection ends.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

#[path = "fake/host.rs"]
mod host;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use api::events::Exit;
use api::request::{CreateRequest, ExecRequest, Mount, StdioPaths, Target};
use api::{ExecId, SandboxId};
use containerd_shim_protos::api::{
    ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteResponse, ExecProcessRequest,
    KillRequest, PidsResponse, ProcessInfo, ResizePtyRequest, StateResponse, StatsResponse,
    UpdateTaskRequest, WaitResponse,
};
use host::{Host, OWN, Reply, SANDBOX, SOON, Shim as Fake, V2, V3, done, web};
use protobuf::well_known_types::any::Any as RpcAny;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{EnumOrUnknown, Message, MessageField};
use serde_json::json;
use shim_client::{Any, Error, SandboxRequest, Shim, Status, TaskVersion};
use ttrpc::Code;
use ttrpc::proto::Request;

fn at(seconds: i64) -> MessageField<Timestamp> {
    MessageField::some(Timestamp { seconds, ..Timestamp::default() })
}

fn any(type_url: &str) -> MessageField<RpcAny> {
    let (type_url, value) = (type_url.to_owned(), b"v".to_vec());
    MessageField::some(RpcAny { type_url, value, ..RpcAny::default() })
}

fn init() -> Target {
    Target { container: web(), exec: None }
}

fn sh() -> Target {
    Target { container: web(), exec: Some(ExecId::new("sh").unwrap()) }
}

/// A shim whose Connect is answered, and all else as the test says.
async fn connected(
    host: &Host,
    version: u32,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Fake, Shim) {
    let services = [if version == 2 { V2 } else { V3 }, SANDBOX];
    let fake = Fake::serve(host, &services, move |request| match &*request.method {
        "Connect" => {
            done(&ConnectResponse { shim_pid: 77, task_pid: 8, ..ConnectResponse::default() })
        }
        _ => answer(request),
    });
    host.note(version);
    let shim = Shim::reconnect(&host.bundle(), SOON).await.unwrap();
    fake.requests();
    (fake, shim)
}

/// Answers to all calls that have something in their answer.
fn answer(request: &Request) -> Reply {
    match &*request.method {
        "Create" | "Start" => done(&CreateTaskResponse { pid: 5, ..CreateTaskResponse::default() }),
        "Wait" => {
            let exited_at = at(5);
            done(&WaitResponse { exit_status: 3, exited_at, ..WaitResponse::default() })
        }
        "Delete" => {
            let exited_at = at(6);
            done(&DeleteResponse { exit_status: 4, exited_at, ..DeleteResponse::default() })
        }
        "Pids" => {
            let process = |pid| ProcessInfo { pid, ..ProcessInfo::default() };
            let processes = vec![process(5), process(6)];
            done(&PidsResponse { processes, ..PidsResponse::default() })
        }
        "Stats" => {
            let stats = any("io.containerd.cgroups.v1.Metrics");
            done(&StatsResponse { stats, ..StatsResponse::default() })
        }
        "State" => {
            use containerd_shim_protos::api::Status;
            let status = EnumOrUnknown::new(Status::PAUSED);
            done(&StateResponse { status, pid: 5, bundle: "/b".into(), ..Default::default() })
        }
        _ => Reply::Done(Vec::new()),
    }
}

fn create() -> CreateRequest {
    let mount = Mount { fstype: "bind".into(), source: "/r".into(), ..Mount::default() };
    let stdio = StdioPaths { stdout: "/f".into(), terminal: true, ..StdioPaths::default() };
    CreateRequest { id: web(), bundle: "/b".into(), rootfs: vec![mount], stdio }
}

#[tokio::test]
async fn task_is_the_same_in_both_versions() {
    for (version, service) in [(2, V2), (3, V3)] {
        let host = Host::new();
        let (fake, shim) = connected(&host, version, answer).await;
        assert_eq!(shim.pid(), 77);
        let options = Any { type_url: "o".into(), value: vec![1] };
        assert_eq!(shim.create(&create(), Some(&options)).await, Ok(5));
        assert_eq!(shim.start(&init()).await, Ok(5));
        let request =
            ExecRequest { target: sh(), process: json!({"cwd": "/"}), stdio: create().stdio };
        shim.exec(&request).await.unwrap();
        shim.kill(&sh(), 9, true).await.unwrap();
        let exit = Exit { status: 3, at: UNIX_EPOCH + Duration::from_secs(5) };
        assert_eq!(shim.wait(&init()).await, Ok(exit));
        let state = shim.state(&init()).await.unwrap();
        assert_eq!((state.status, state.pid, state.bundle), (Status::Paused, 5, "/b".into()));
        assert_eq!(shim.pids(&web()).await, Ok(vec![5, 6]));
        shim.pause(&web()).await.unwrap();
        shim.resume(&web()).await.unwrap();
        shim.resize(&init(), (80, 25)).await.unwrap();
        shim.close_io(&init()).await.unwrap();
        let notes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        shim.update(&web(), &json!({"cpu": {}}), notes).await.unwrap();
        let stats = shim.stats(&web()).await.unwrap();
        assert_eq!(stats.type_url, "io.containerd.cgroups.v1.Metrics");
        assert_eq!(shim.delete(&sh()).await.unwrap().status, 4);
        assert_eq!(shim.connect(&web()).await.unwrap().task_pid, 8);
        shim.shutdown(&web(), false).await.unwrap();
        let requests = fake.requests();
        assert!(requests.iter().all(|request| request.service == service));
        fields(&requests);
    }
}

/// What of the calls has reached the shim.
fn fields(requests: &[Request]) {
    fn of<T: Message>(requests: &[Request], method: &str) -> T {
        let request = requests.iter().find(|request| request.method == method).unwrap();
        T::parse_from_bytes(&request.payload).unwrap()
    }
    let created: CreateTaskRequest = of(requests, "Create");
    assert_eq!((created.id.as_str(), created.bundle.as_str()), ("web", "/b"));
    assert_eq!((created.rootfs[0].type_.as_str(), created.stdout.as_str()), ("bind", "/f"));
    assert!(created.terminal && created.options.type_url == "o");
    let exec: ExecProcessRequest = of(requests, "Exec");
    assert_eq!((exec.exec_id.as_str(), exec.stdout.as_str()), ("sh", "/f"));
    assert_eq!(exec.spec.value, br#"{"cwd":"/"}"#);
    assert!(exec.spec.type_url.ends_with("runtime-spec/1/Process"));
    let kill: KillRequest = of(requests, "Kill");
    assert_eq!((kill.exec_id.as_str(), kill.signal, kill.all), ("sh", 9, true));
    let resize: ResizePtyRequest = of(requests, "ResizePty");
    assert_eq!((resize.width, resize.height), (80, 25));
    let update: UpdateTaskRequest = of(requests, "Update");
    assert_eq!((&*update.resources.value, &*update.annotations["a"]), (&br#"{"cpu":{}}"#[..], "b"));
    // A shim is told how long it is waited for, and that whoever waits for an end has no limit.
    let limit = |method| requests.iter().find(|request| request.method == method).unwrap();
    assert!(limit("State").timeout_nano > 0);
    assert_eq!(limit("Wait").timeout_nano, 0);
}

#[tokio::test]
async fn refusals_keep_their_kind_and_text() {
    let host = Host::new();
    let refuse = |request: &Request| match &*request.method {
        "State" => Reply::Refused(Code::NOT_FOUND, "container \"web\" does not exist".into()),
        "Create" => Reply::Refused(Code::ALREADY_EXISTS, "it is there".into()),
        "Start" => Reply::Refused(Code::UNKNOWN, "OCI runtime: exec: \"x\": not found".into()),
        _ => Reply::Refused(Code::FAILED_PRECONDITION, "stopped".into()),
    };
    let (_fake, shim) = connected(&host, 3, refuse).await;
    let error = shim.state(&init()).await.unwrap_err();
    let text = "asking for the state of container \"web\": container \"web\" does not exist";
    assert_eq!(error, Error::NotFound(text.into()));
    let error = shim.create(&create(), None).await.unwrap_err();
    assert_eq!(error, Error::AlreadyExists("creating container \"web\": it is there".into()));
    let error = shim.start(&sh()).await.unwrap_err();
    let text = "starting exec \"sh\" of \"web\": OCI runtime: exec: \"x\": not found";
    assert_eq!(error, Error::Other(text.into()));
    let error = shim.kill(&init(), 9, false).await.unwrap_err();
    assert!(matches!(error, Error::FailedPrecondition(_)), "{error}");
    // Not every shim has our own service.
    let error = shim.own().list().await.unwrap_err();
    assert!(matches!(&error, Error::Unimplemented(text) if text.contains(OWN)), "{error}");
}

#[tokio::test]
async fn shim_that_does_not_answer_in_time_keeps_its_connection() {
    let host = Host::new();
    let (_fake, shim) = connected(&host, 3, |request| match &*request.method {
        "State" => Reply::Never,
        _ => answer(request),
    })
    .await;
    let begin = Instant::now();
    let error = shim.within(Duration::from_millis(100)).state(&init()).await.unwrap_err();
    assert!(matches!(&error, Error::DeadlineExceeded(text) if text.contains("100ms")), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(shim.pids(&web()).await, Ok(vec![5, 6]));
}

#[tokio::test]
async fn end_of_the_connection_is_seen_by_all_at_once() {
    let host = Host::new();
    let (fake, shim) = connected(&host, 3, |_| Reply::Never).await;
    let (target, request) = (init(), create());
    let (closed, wait, create, end, ()) = tokio::join!(
        tokio::time::timeout(SOON, shim.closed()),
        tokio::time::timeout(SOON, shim.wait(&target)),
        tokio::time::timeout(SOON, shim.create(&request, None)),
        async {
            let sandbox = shim.sandbox(SandboxId::new("web").unwrap());
            tokio::time::timeout(SOON, sandbox.wait()).await
        },
        async {
            fake.asked(3).await;
            fake.kill();
        },
    );
    closed.unwrap();
    assert!(matches!(wait.unwrap(), Err(Error::Disconnected(_))));
    assert!(matches!(create.unwrap(), Err(Error::Disconnected(_))));
    assert!(matches!(end.unwrap(), Err(Error::Disconnected(_))));
    // And by whoever comes later.
    let later = shim.state(&init()).await.unwrap_err();
    assert!(matches!(later, Error::Disconnected(_)), "{later}");
    shim.closed().await;
    // Whoever wants the shim's end has it.
    shim.shutdown(&web(), true).await.unwrap();
    let gone = Shim::reconnect(&host.bundle(), SOON).await.unwrap_err();
    assert!(matches!(&gone, Error::Gone(_)), "{gone}");
}

#[tokio::test]
async fn shim_that_is_gone_is_told_apart_from_one_that_does_not_answer() {
    let host = Host::new();
    let briefly = Duration::from_millis(300);
    let never = Shim::reconnect(&host.bundle(), SOON).await.unwrap_err();
    assert!(matches!(&never, Error::Gone(text) if text.contains("no shim was started")), "{never}");
    std::fs::write(host.bundle().join("bootstrap.json"), "{}").unwrap();
    let nonsense = Shim::reconnect(&host.bundle(), SOON).await.unwrap_err();
    assert!(matches!(&nonsense, Error::Other(text) if text.contains("bootstrap.json")));
    host.note(3);
    let removed = Shim::reconnect(&host.bundle(), SOON).await.unwrap_err();
    assert!(matches!(&removed, Error::Gone(_)), "{removed}");
    let listener = std::os::unix::net::UnixListener::bind(host.socket()).unwrap();
    // It takes the connection and says nothing, as one that hangs.
    let mute = Shim::reconnect(&host.bundle(), briefly).await.unwrap_err();
    assert!(matches!(&mute, Error::DeadlineExceeded(text) if text.contains("listens")), "{mute}");
    // As one that has stopped for long: no more callers can wait in line.
    let mut line = Vec::new();
    rustix::net::listen(&listener, 0).unwrap();
    while let Ok(Ok(caller)) =
        tokio::time::timeout(briefly, tokio::net::UnixStream::connect(host.socket())).await
    {
        line.push(caller);
    }
    let full = Shim::reconnect(&host.bundle(), briefly).await.unwrap_err();
    assert!(matches!(&full, Error::DeadlineExceeded(_)), "{full}");
    // Killed: the socket stays and nobody is behind it.
    drop(listener);
    let killed = Shim::reconnect(&host.bundle(), SOON).await.unwrap_err();
    assert!(matches!(&killed, Error::Gone(text) if text.contains("refused")), "{killed}");
}

#[tokio::test]
async fn whoever_is_no_shim_costs_the_connection_and_nothing_else() {
    use tokio::io::AsyncWriteExt;
    let host = Host::new();
    host.note(3);
    let listener = tokio::net::UnixListener::bind(host.socket()).unwrap();
    let nonsense = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // It may have hung up already.
            let _gone = stream.write_all(&[0x7f; 4096]).await;
        }
    };
    let bundle = host.bundle();
    tokio::select! {
        shim = Shim::reconnect(&bundle, SOON) => {
            assert!(matches!(shim, Err(Error::Disconnected(_))), "{shim:?}");
        }
        () = nonsense => {}
    }
}

/// The socket of a process that was killed can be connected to for a moment.
#[tokio::test]
async fn shim_that_is_just_ending_is_gone_in_the_end() {
    let host = Host::new();
    host.note(3);
    let listener = tokio::net::UnixListener::bind(host.socket()).unwrap();
    let ending = async move {
        drop(listener.accept().await.unwrap());
        drop(listener);
    };
    let bundle = host.bundle();
    let (shim, ()) = tokio::join!(Shim::reconnect(&bundle, SOON), ending);
    assert!(matches!(shim, Err(Error::Gone(_))), "{shim:?}");
}

#[tokio::test]
async fn calls_of_a_sandbox_reach_its_service() {
    use containerd_shim_protos::sandbox_api::{
        CreateSandboxRequest, SandboxMetricsResponse, SandboxStatusResponse, StartSandboxResponse,
        StopSandboxRequest, WaitSandboxResponse,
    };
    let host = Host::new();
    let (fake, shim) = connected(&host, 3, |request| match &*request.method {
        "StartSandbox" => {
            let created_at = at(4);
            done(&StartSandboxResponse { pid: 9, created_at, ..StartSandboxResponse::default() })
        }
        "WaitSandbox" => {
            done(&WaitSandboxResponse { exit_status: 137, ..WaitSandboxResponse::default() })
        }
        "SandboxStatus" => done(&SandboxStatusResponse {
            pid: 9,
            state: "SANDBOX_READY".into(),
            info: [("reason".to_owned(), "none".to_owned())].into(),
            ..SandboxStatusResponse::default()
        }),
        "SandboxMetrics" => {
            let mut response = SandboxMetricsResponse::default();
            response.metrics.mut_or_insert_default().data = any("m");
            done(&response)
        }
        "UpdateSandbox" => Reply::Refused(Code::UNIMPLEMENTED, "method UpdateSandbox".into()),
        _ => Reply::Done(Vec::new()),
    })
    .await;
    let sandbox = shim.sandbox(SandboxId::new("web").unwrap());
    let request = SandboxRequest {
        bundle: "/b".into(),
        network: "/run/netns/x".into(),
        options: Some(Any { type_url: "runtime.v1.PodSandboxConfig".into(), value: vec![1] }),
        ..SandboxRequest::default()
    };
    sandbox.create(&request).await.unwrap();
    let started = sandbox.start().await.unwrap();
    assert_eq!(started.created_at, Some(UNIX_EPOCH + Duration::from_secs(4)));
    let status = sandbox.status(true).await.unwrap();
    assert!(status.ready && status.pid == 9 && status.exited_at.is_none());
    assert_eq!(status.info["reason"], "none");
    sandbox.ping().await.unwrap();
    assert_eq!(sandbox.metrics().await.unwrap().type_url, "m");
    let news = sandbox.update(&BTreeMap::new()).await.unwrap_err();
    assert!(matches!(news, Error::Unimplemented(_)), "{news}");
    sandbox.stop(Duration::from_millis(1500)).await.unwrap();
    sandbox.stop(Duration::ZERO).await.unwrap();
    assert_eq!(sandbox.wait().await.unwrap().status, 137);
    sandbox.shutdown().await.unwrap();
    let requests = fake.requests();
    assert!(requests.iter().all(|request| request.service == SANDBOX));
    let created = CreateSandboxRequest::parse_from_bytes(&requests[0].payload).unwrap();
    assert_eq!((created.sandbox_id.as_str(), created.netns_path.as_str()), ("web", "/run/netns/x"));
    assert_eq!(created.options.type_url, "runtime.v1.PodSandboxConfig");
    let stops = requests.iter().filter(|request| request.method == "StopSandbox");
    let stops = stops.map(|stop| StopSandboxRequest::parse_from_bytes(&stop.payload).unwrap());
    let seconds: Vec<_> = stops.map(|stop| stop.timeout_secs).collect();
    assert_eq!(seconds, [2, 1]);
}

#[tokio::test]
async fn what_our_own_shim_lists_is_told_in_words() {
    use protocol::shim::{Container, ListResponse, MetricsResponse, Status as OwnStatus, User};
    let host = Host::new();
    host.note(3);
    let listing = |id: &str| ListResponse {
        containers: vec![Container {
            id: id.into(),
            status: EnumOrUnknown::new(OwnStatus::STATUS_STOPPED),
            exit_status: 3,
            exited_at: at(5),
            created_at: at(4),
            stdout: "cri-log:///l".into(),
            pod: true,
            user: Some(User { uid: 33, gid: 34, groups: vec![50], ..User::default() }).into(),
            ..Container::default()
        }],
        ..ListResponse::default()
    };
    let answers = std::sync::Mutex::new(vec![listing("../web"), listing("web")]);
    let _fake = Fake::serve(&host, &[V3, OWN], move |request| match &*request.method {
        "List" => done(&answers.lock().unwrap().pop().unwrap()),
        "Metrics" => {
            let containers = [("web".to_owned(), any("m").unwrap())].into();
            let census = protocol::shim::Census { sockets: Some(4), ..Default::default() };
            let census = [("web".to_owned(), census)].into();
            done(&MetricsResponse { containers, census, ..MetricsResponse::default() })
        }
        _ => Reply::Done(Vec::new()),
    });
    let own = Shim::reconnect(&host.bundle(), SOON).await.unwrap().own();
    let listed = own.list().await.unwrap().containers;
    let exit = Exit { status: 3, at: UNIX_EPOCH + Duration::from_secs(5) };
    assert_eq!((&listed[0].id, listed[0].pod), (&web(), true));
    assert_eq!(listed[0].init.status, Status::Stopped(exit));
    assert_eq!(listed[0].init.stdio.stdout, "cri-log:///l");
    assert_eq!(listed[0].user, Some(api::User { uid: 33, gid: 34, groups: vec![50] }));
    assert_eq!(listed[0].created_at, Some(UNIX_EPOCH + Duration::from_secs(4)));
    let nonsense = own.list().await.unwrap_err();
    assert!(matches!(&nonsense, Error::Other(text) if text.contains("../web")), "{nonsense}");
    own.reopen_log(&web()).await.unwrap();
    own.attach(&web(), "/f/out", "").await.unwrap();
    let metrics = own.metrics().await.unwrap();
    assert!(metrics.pod.is_none() && metrics.containers["web"].type_url == "m");
    assert_eq!((metrics.census["web"].sockets, metrics.census["web"].processes), (Some(4), None));
}

/// A shim in a version that only others know is not spoken to at all.
#[tokio::test]
async fn shim_without_a_task_service_is_refused() {
    let host = Host::new();
    host.note(3);
    let _fake = Fake::serve(&host, &["containerd.task.v9.Task"], answer);
    let error = Shim::reconnect(&host.bundle(), SOON).await.unwrap_err();
    assert!(matches!(&error, Error::Unimplemented(text) if text.contains(V2)), "{error}");
}

#[tokio::test]
async fn version_is_that_of_the_bundle() {
    let host = Host::new();
    let (_fake, shim) = connected(&host, 2, answer).await;
    assert_eq!(shim.version(), TaskVersion::V2);
    std::fs::remove_file(host.bundle().join("bootstrap.json")).unwrap();
    std::fs::write(host.bundle().join("address"), host.address()).unwrap();
    let shim = Shim::reconnect(&host.bundle(), SOON).await.unwrap();
    assert_eq!(shim.version(), TaskVersion::V2);
}

/// Its daemon was away, and the shim has gone on writing.
#[tokio::test]
async fn log_of_a_shim_has_a_reader_as_long_as_somebody_is_connected() {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let host = Host::new();
    let (fake, shim) = connected(&host, 3, answer).await;
    // Without a reader, opening it would wait.
    let mut log = OpenOptions::new().write(true).open(host.bundle().join("log")).unwrap();
    // Far more than a pipe holds.
    let writing = tokio::task::spawn_blocking(move || {
        for _ in 0..10_000 {
            log.write_all(b"time=\"2026\" level=info msg=\"a line of a shim\"\n").unwrap();
        }
    });
    tokio::time::timeout(SOON, writing).await.unwrap().unwrap();
    drop(shim);
    fake.kill();
    let end = Instant::now() + SOON;
    let mut writer = OpenOptions::new();
    writer.write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    // A fifo without a reader can't be opened so.
    while writer.open(host.bundle().join("log")).is_ok() {
        assert!(Instant::now() < end, "somebody still reads");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
