use api::request::StdioPaths;
use machine::patience::Patience;
use tempfile::TempDir;

use super::*;
use crate::container::{Process, ProcessState, Role};
use crate::stdio::Streams;

/// A sandbox that has its state and its socket in a directory of its own.
fn sandbox() -> (TempDir, Sandbox) {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity {
        namespace: Namespace::new("test").unwrap(),
        id: SandboxId::new("pod").unwrap(),
        socket: Some(dir.path().join("socket")),
    };
    let state = StateDir::at(&dir.path().join("test/pod"));
    (dir, Sandbox::start(identity, state, mpsc::channel(8).0))
}

fn target(exec: Option<&str>) -> Target {
    let exec = exec.map(|exec| ExecId::new(exec).unwrap());
    Target { container: ContainerId::new("web").unwrap(), exec }
}

fn request(bundle: &std::path::Path) -> CreateRequest {
    CreateRequest {
        id: ContainerId::new("web").unwrap(),
        bundle: bundle.to_owned(),
        rootfs: Vec::new(),
        stdio: StdioPaths::default(),
    }
}

#[tokio::test]
async fn unknown_container_is_not_found_by_every_verb() {
    let (_dir, sandbox) = sandbox();
    let id = ContainerId::new("web").unwrap();
    let not_found = Error::no_container("web");
    assert_eq!(sandbox.view(target(None)).await.unwrap_err(), not_found);
    assert_eq!(sandbox.wait(target(None)).await.unwrap_err(), not_found);
    assert_eq!(sandbox.pids(id.clone()).await.unwrap_err(), not_found);
    assert_eq!(sandbox.delete(target(None)).await.unwrap_err(), not_found);
    assert_eq!(sandbox.kill(target(None), 9, true).await.unwrap_err(), not_found);
    assert_eq!(sandbox.pause(id.clone(), true).await.unwrap_err(), not_found);
    assert_eq!(sandbox.stats(id).await.unwrap_err(), not_found);
    assert_eq!(sandbox.start_process(target(Some("e"))).await.unwrap_err(), not_found);
    let unmeasured = sandbox.pod_stats().await.unwrap_err();
    assert!(matches!(unmeasured, Error::State(_)), "{unmeasured:?}");
}

#[tokio::test]
async fn bundle_without_configuration_fails_by_name_and_leaves_the_name_free() {
    let (dir, sandbox) = sandbox();
    for _ in 0..2 {
        let error = sandbox.create(request(dir.path())).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains("config.json"), "{error}");
    }
}

#[tokio::test]
async fn unknown_snapshot_type_is_refused_before_anything_boots() {
    let (dir, sandbox) = sandbox();
    std::fs::write(dir.path().join("config.json"), r#"{"process":{}}"#).unwrap();
    let mut request = request(dir.path());
    request.rootfs.push(api::request::Mount { fstype: "zfs".into(), ..Default::default() });
    let error = sandbox.create(request).await.unwrap_err();
    assert!(error.to_string().contains("\"zfs\""), "{error}");
}

#[tokio::test]
async fn sandbox_without_machine_closes_and_leaves_nothing() {
    let (dir, sandbox) = sandbox();
    let socket = dir.path().join("socket");
    std::fs::write(&socket, "").unwrap();
    assert!(sandbox.shutdown(Shutdown::IfEmpty).await.unwrap());
    // The socket is gone before the answer: nobody can join a sandbox that is on its way out.
    assert!(!socket.exists());
    sandbox.closed().await;
    let error = sandbox.create(request(dir.path())).await.unwrap_err();
    assert!(matches!(error, Error::State(_)), "{error:?}");
}

#[tokio::test]
async fn end_and_start_of_the_same_name_wait_for_each_other() {
    let (dir, sandbox) = sandbox();
    let state = StateDir::at(&dir.path().join("test/pod"));
    state.create().unwrap();
    let starting = state.try_lock().unwrap().unwrap();
    assert!(sandbox.shutdown(Shutdown::Now).await.unwrap());
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), sandbox.closed());
    assert!(early.await.is_err() && state.path().exists(), "it took the place from a start");
    drop(starting);
    sandbox.closed().await;
    assert!(!state.path().exists());
    drop(state.try_lock().unwrap().unwrap());
}

#[tokio::test]
async fn end_asked_for_during_a_create_that_fails_still_comes() {
    let (dir, sandbox) = sandbox();
    std::fs::write(dir.path().join("config.json"), r#"{"process":{}}"#).unwrap();
    let creating = sandbox.create(request(dir.path()));
    let (created, ending) = tokio::join!(creating, sandbox.shutdown(Shutdown::WhenEmpty));
    // No kernel is installed beside the tests.
    assert!(created.unwrap_err().to_string().contains("kernel"));
    assert!(!ending.unwrap());
    let over = tokio::time::timeout(std::time::Duration::from_secs(20), sandbox.closed());
    over.await.unwrap();
}

/// What a step of the owner finds, with the container "web" running.
async fn with_container<T: Send + 'static>(
    sandbox: &Sandbox,
    step: impl FnOnce(&mut Owner) -> T + Send + 'static,
) -> T {
    let looked = sandbox.look(|owner| {
        let (request, id) = (request("/bundle".as_ref()), target(None).container);
        if owner.containers.is_empty() {
            let mut container = Container::new(Role::Guest, &request, 7, Streams::none());
            container.init.state = ProcessState::Running;
            owner.containers.insert(id, Slot::Present(Box::new(container)));
        }
        Ok(step(owner))
    });
    looked.await.unwrap()
}

/// An exec "e" of it in some state.
fn add_exec(owner: &mut Owner, state: ProcessState) -> &mut Process {
    let execs = &mut owner.container(&target(None).container).unwrap().execs;
    let process = execs.entry(ExecId::new("e").unwrap());
    let process = process.or_insert(Process::new(StdioPaths::default(), Streams::none()));
    process.state = state;
    process
}

fn ended(status: u32) -> Exit {
    Exit { status, at: std::time::SystemTime::UNIX_EPOCH }
}

#[tokio::test(start_paused = true)]
async fn killed_container_has_ended_although_nobody_reads_its_output() {
    let (_dir, sandbox) = sandbox();
    let watch = with_container(&sandbox, |owner| {
        let init = owner.process(&target(None)).unwrap();
        init.ended.send_replace(Some(ended(137)));
        (init.ended.subscribe(), init.exit.subscribe())
    });
    let (known, told) = watch.await;
    assert!(signal::ends(known, Patience::with(Vec::new())).await);
    assert_eq!(*told.borrow(), None);
    let stuck =
        with_container(&sandbox, |owner| add_exec(owner, ProcessState::Running).ended.subscribe());
    assert!(!signal::ends(stuck.await, Patience::with(Vec::new())).await);
}

#[tokio::test(start_paused = true)]
async fn exec_that_has_ended_before_its_container_keeps_its_own_code() {
    let (_dir, sandbox) = sandbox();
    with_container(&sandbox, |owner| {
        add_exec(owner, ProcessState::Running).ended.send_replace(Some(ended(3)));
        owner.exited(&target(None), ended(137), None);
    })
    .await;
    // Its output is never delivered.
    assert_eq!(sandbox.wait(target(Some("e"))).await.unwrap().status, 3);
    assert_eq!(sandbox.wait(target(None)).await.unwrap().status, 137);
}

#[tokio::test(start_paused = true)]
async fn exec_that_the_guest_does_not_tell_of_was_killed_with_its_container() {
    let (_dir, sandbox) = sandbox();
    with_container(&sandbox, |owner| {
        add_exec(owner, ProcessState::Running);
        owner.exited(&target(None), ended(0), None);
    })
    .await;
    assert_eq!(sandbox.wait(target(Some("e"))).await.unwrap().status, 137);
    assert_eq!(sandbox.wait(target(None)).await.unwrap().status, 0);
}

#[tokio::test]
async fn paused_container_takes_no_exec() {
    let (_dir, sandbox) = sandbox();
    with_container(&sandbox, |owner| {
        add_exec(owner, ProcessState::Created);
        owner.container(&target(None).container).unwrap().paused = true;
    })
    .await;
    let paused = |error| matches!(error, Error::State(text) if text.contains("paused"));
    let process = serde_json::json!({"args": ["true"], "cwd": "/"});
    let stdio = StdioPaths::default();
    let another = ExecRequest { target: target(Some("f")), process, stdio };
    assert!(paused(sandbox.exec(another).await.unwrap_err()));
    let start = with_container(&sandbox, |owner| owner.accept_start(&target(Some("e"))).map(drop));
    assert!(paused(start.await.unwrap_err()));
    // Its caller may try again.
    let state = with_container(&sandbox, |owner| {
        matches!(owner.process(&target(Some("e"))).unwrap().state, ProcessState::Created)
    });
    assert!(state.await);
}

#[tokio::test]
async fn all_processes_of_an_exec_are_the_exec() {
    let (_dir, sandbox) = sandbox();
    with_container(&sandbox, |owner| add_exec(owner, ProcessState::Running).size).await;
    let killed = sandbox.kill(target(Some("e")), 15, true).await;
    // There is no machine here.
    assert_eq!(killed.unwrap_err(), Error::Exited("e".into()));
}
