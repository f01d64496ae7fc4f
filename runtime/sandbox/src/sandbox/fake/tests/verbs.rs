//! What is asked is done or refused.

use agent_api::container::UpdateContainerRequest;
use agent_api::process::WaitResponse;
use agent_api::sandbox::ResizeRequest;
use agent_api::types::{ContainerId as RpcContainer, ProcessCreated, ProcessId, User};
use serde_json::{Value, json};
use ttrpc::Code;

use super::super::agent::Answer;
use super::*;

fn id() -> ContainerId {
    ContainerId::new("web").unwrap()
}

#[tokio::test]
async fn update_carries_no_rules_of_devices() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    let rule = json!({"allow": true, "type": "b", "major": 8, "minor": 16, "access": "rwm"});
    let resources = json!({"devices": [rule], "cpu": {"shares": 512}});
    stage.sandbox.update(id(), resources).await.unwrap();
    let asked: UpdateContainerRequest = stage.agent.called("Container/Update").await;
    let asked: Value = serde_json::from_slice(&asked.resources_json).unwrap();
    assert_eq!(asked, json!({"cpu": {"shares": 512}}));
}

#[tokio::test]
async fn resize_that_the_machine_can_not_honour_is_refused_and_the_pod_lives() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    let update = |mib: u64, quota: i64| {
        let cpu = json!({"quota": quota, "period": 100_000});
        stage.sandbox.update(id(), json!({"memory": {"limit": mib << 20}, "cpu": cpu}))
    };
    for (mib, quota, sizes) in [
        (MEMORY_MIB + 1, -1, ["257 MiB", "256 MiB"]),
        (63, -1, ["63 MiB", "64 MiB"]),
        (64, 300_000, ["3 CPUs", "stays at 2"]),
    ] {
        let error = update(mib, quota).await.unwrap_err();
        assert!(matches!(error, Error::State(_)), "{error:?}");
        let text = error.to_string();
        assert!(sizes.iter().all(|size| text.contains(size)), "{text}");
        assert!(text.contains("make the pod anew"), "{text}");
    }
    assert!(!stage.agent.was_called("Container/Update"));
    update(128, 200_000).await.unwrap();
    update(64, -1).await.unwrap_err();
    let status = stage.sandbox.view(target("web", None)).await.unwrap().status;
    assert_eq!(status, crate::container::Status::Running);
}

/// The pod's own limit in the guest would hold what its container is given, which has 64 MiB so far.
#[tokio::test]
async fn pod_may_use_more_by_what_its_containers_may() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    let update = |mib: u64| stage.sandbox.update(id(), json!({"memory": {"limit": mib << 20}}));
    let asked = async || {
        let asked: ResizeRequest = stage.agent.called("Sandbox/Resize").await;
        asked.memory_limit_bytes >> 20
    };
    update(64).await.unwrap();
    assert!(!stage.agent.was_called("Sandbox/Resize"), "it is no more than before");
    stage.agent.answer("Sandbox/Resize", Answer::Status(Code::INTERNAL, "memory.max".into()));
    let refused = update(80).await.unwrap_err();
    assert!(refused.to_string().contains("memory.max"), "{refused}");
    assert_eq!(asked().await, CONTAINERS_MIB + 16);
    // What failed was not given.
    update(80).await.unwrap();
    assert_eq!(asked().await, CONTAINERS_MIB + 16);
    update(100).await.unwrap();
    assert_eq!(asked().await, CONTAINERS_MIB + 36);
    update(MEMORY_MIB).await.unwrap();
    assert_eq!(asked().await, MEMORY_MIB, "beyond the machine there is nothing");
}

#[tokio::test]
async fn pod_gives_no_memory_back_and_goes_on_when_it_is_asked_to() {
    let limited = |mib: Option<u64>| {
        let limits =
            crate::sizing::Limits { memory_bytes: mib.map(|mib| mib << 20), ..Default::default() };
        crate::Pod { limits, ..Default::default() }
    };
    for (limit, less, as_it_is) in [(Some(128), 127, 128), (None, 255, 256)] {
        let stage = Stage::running().await;
        let pod = ContainerId::new("pod").unwrap();
        stage.sandbox.hold(pod.clone(), limited(limit), Vec::new()).await.unwrap();
        let update =
            |mib: u64| stage.sandbox.update(pod.clone(), json!({"memory": {"limit": mib << 20}}));
        let error = update(less).await.unwrap_err();
        assert!(matches!(error, Error::State(_)), "{error:?}");
        let text = error.to_string();
        let sizes = [format!("{less} MiB"), format!("{as_it_is} MiB")];
        assert!(sizes.iter().all(|size| text.contains(size)), "{text}");
        update(as_it_is).await.unwrap();
        // More, as far as the machine goes, is the new measure.
        update(256).await.unwrap();
        assert!(update(200).await.is_err());
        assert!(!stage.agent.was_called("Container/Update"));
    }
}

#[tokio::test]
async fn text_of_the_guest_is_short_and_printable() {
    let stage = Stage::running().await;
    container(&stage, false).await;
    let text = format!("\x1b[2Jno such\nfile {}", "x".repeat(3 << 20));
    stage.agent.answer("Process/Start", Answer::Status(Code::INTERNAL, text));
    let error = stage.sandbox.start_process(target("web", None)).await.unwrap_err().to_string();
    assert!(error.len() < 1200, "{}", error.len());
    assert!(error.contains(": ?[2Jno such?file xxx"), "{error}");
}

#[tokio::test]
async fn user_is_listed_as_the_guest_has_looked_it_up() {
    let stage = Stage::running().await;
    let created = |groups: usize| {
        let user =
            User { uid: 33, gid: 34, additional_gids: vec![50; groups], ..Default::default() };
        Answer::message(&ProcessCreated { user: Some(user).into(), ..Default::default() })
    };
    stage.agent.answer("Container/Create", created(1));
    container(&stage, false).await;
    let listed = stage.sandbox.list().await.unwrap();
    assert_eq!(listed[0].user, Some(api::User { uid: 33, gid: 34, groups: vec![50] }));
    stage.agent.answer("Container/Create", created(1 << 17));
    let error = stage.sandbox.create(stage.request("many")).await.unwrap_err().to_string();
    assert!(error.contains("131072 groups"), "{error}");
    assert_eq!(stage.sandbox.list().await.unwrap().len(), 1, "it was taken from the guest");
    let gone: RpcContainer = stage.agent.called("Container/Delete").await;
    assert_eq!(gone.container_id, "many");
}

#[tokio::test]
async fn exit_status_of_the_guest_is_one() {
    let stage = Stage::running().await;
    let ended = WaitResponse { exit_status: 1 << 20, ..Default::default() };
    stage.agent.answer("Process/Wait", Answer::message(&ended));
    container(&stage, false).await;
    assert_eq!(stage.sandbox.wait(target("web", None)).await.unwrap().status, 255);
}

#[tokio::test]
async fn answer_that_is_none_fails_its_call_only() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    stage.agent.answer("Container/Stats", Answer::Message(vec![0xff; 9]));
    let error = stage.sandbox.stats(id()).await.unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error:?}");
    stage.sandbox.stats(id()).await.unwrap();
}

#[tokio::test]
async fn container_whose_resume_failed_stays_paused() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    stage.sandbox.pause(id(), true).await.unwrap();
    let refusal = Answer::Status(Code::INTERNAL, "cgroup.freeze: I/O error".into());
    stage.agent.answer("Container/Resume", refusal);
    let error = stage.sandbox.kill(target("web", None), 9, true).await.unwrap_err();
    assert!(error.to_string().contains("cgroup.freeze"), "{error}");
    let view = stage.sandbox.view(target("web", None)).await.unwrap();
    assert_eq!(view.status, crate::container::Status::Paused);
}

#[tokio::test]
async fn container_for_which_there_is_no_process_id_is_taken_from_the_guest() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    let none_left = |owner: &mut Owner| {
        owner.take_id = || Err(std::io::Error::from_raw_os_error(11));
        Ok(())
    };
    stage.sandbox.look(none_left).await.unwrap();
    let error = stage.sandbox.create(stage.request("db")).await.unwrap_err().to_string();
    assert!(error.contains("taking a process id"), "{error}");
    let deleted: RpcContainer = stage.agent.called("Container/Delete").await;
    assert_eq!(deleted.container_id, "db");
    assert!(stage.sandbox.view(target("db", None)).await.is_err());
}

#[tokio::test]
async fn exec_whose_caller_has_gone_is_forgotten_when_it_has_ended() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    stage.agent.called::<ProcessId>("Process/Start").await;
    exec(&stage, StdioPaths::default()).await;
    let (started, exit) = (stage.agent.hold("Process/Start"), stage.agent.hold("Process/Wait"));
    {
        let mut starting = std::pin::pin!(stage.sandbox.start_process(target("web", Some("e"))));
        tokio::select! {
            started = &mut starting => panic!("{started:?}"),
            _ = stage.agent.called::<ProcessId>("Process/Start") => {}
        }
    }
    started.send(Answer::Message(Vec::new())).unwrap();
    let ended = WaitResponse { exit_status: 137, ..Default::default() };
    exit.send(Answer::message(&ended)).unwrap();
    let deleted: ProcessId = stage.agent.called("Process/Delete").await;
    assert_eq!(deleted.exec_id, "e");
    exec(&stage, StdioPaths::default()).await;
}
