//! What is told when the machine ends.

use agent_api::container::CreateContainerRequest;
use agent_api::sandbox::ConfigureRequest;
use agent_api::storage::AttachResponse;
use agent_api::types::{Empty, ProcessId};
use vmm_api::MachineEnd;

use super::super::agent::Answer;
use super::*;

const PANIC: &str = "Kernel panic - not syncing: Attempted to kill init!";

/// The guest's kernel panics: the connection breaks, and the VMM tells.
fn panic(stage: &Stage) {
    stage.vmm.print(&format!("[1.0] {PANIC}\n"));
    stage.agent.disconnect();
    stage.vmm.end(MachineEnd::Panic);
}

#[track_caller]
fn told(error: &Error, words: &[&str]) {
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(!text.contains("eof") && !text.contains("socket"), "{text}");
}

#[tokio::test]
async fn create_that_meets_a_panic_is_told_of_the_panic() {
    let stage = Stage::running().await;
    let _never = stage.agent.hold("Container/Create");
    let creating = stage.sandbox.create(stage.request("web"));
    let ending = async {
        stage.agent.called::<CreateContainerRequest>("Container/Create").await;
        panic(&stage);
    };
    let (created, ()) = tokio::join!(creating, ending);
    told(&created.unwrap_err(), &["the guest kernel panicked", PANIC]);
}

#[tokio::test]
async fn what_the_host_meets_after_the_end_is_told_as_the_end() {
    let stage = Stage::running().await;
    container(&stage, false).await;
    // The guest says so of a root that is gone already: it has answered, and the end explains it.
    let answer = stage.agent.hold("Container/Create");
    let creating = stage.sandbox.create(stage.request("db"));
    let ending = async {
        stage.agent.called::<CreateContainerRequest>("Container/Create").await;
        stage.agent.called::<CreateContainerRequest>("Container/Create").await;
        stage.vmm.end(MachineEnd::TripleFault);
        stage.sandbox.wait(target("web", None)).await.unwrap();
        let text = "mounting overlay: No such file or directory".to_owned();
        answer.send(Answer::Status(ttrpc::Code::INTERNAL, text)).unwrap();
    };
    let (created, ()) = tokio::join!(creating, ending);
    told(&created.unwrap_err(), &["the guest took a triple fault"]);
}

#[tokio::test]
async fn start_and_exec_that_meet_a_panic_are_told_of_the_panic() {
    for exec_too in [false, true] {
        let stage = Stage::running().await;
        container(&stage, exec_too).await;
        let _never = stage.agent.hold("Process/Start");
        let starting = if exec_too {
            exec(&stage, StdioPaths::default()).await;
            stage.agent.called::<ProcessId>("Process/Start").await;
            stage.sandbox.start_process(target("web", Some("e")))
        } else {
            stage.sandbox.start_process(target("web", None))
        };
        let ending = async {
            stage.agent.called::<ProcessId>("Process/Start").await;
            panic(&stage);
        };
        let (started, ()) = tokio::join!(starting, ending);
        told(&started.unwrap_err(), &["the guest kernel panicked", PANIC]);
    }
}

#[tokio::test]
async fn boot_that_meets_a_panic_after_the_guest_was_ready_is_told_of_the_panic() {
    let stage = Stage::booting().await;
    let _never = stage.agent.hold("Sandbox/Configure");
    let creating = stage.sandbox.create(stage.request("web"));
    let ending = async {
        stage.vmm.ready();
        stage.agent.called::<ConfigureRequest>("Sandbox/Configure").await;
        panic(&stage);
    };
    let (created, ()) = tokio::join!(creating, ending);
    told(&created.unwrap_err(), &["the guest kernel panicked", PANIC]);
}

#[tokio::test]
async fn pod_tells_why_its_machine_is_over() {
    let stage = Stage::running().await;
    let pod = ContainerId::new("pod").unwrap();
    stage.sandbox.hold(pod, crate::Pod::default(), Vec::new()).await.unwrap();
    stage.sandbox.start_process(target("pod", None)).await.unwrap();
    assert_eq!(stage.sandbox.end_reason().await.unwrap(), None);
    panic(&stage);
    stage.sandbox.wait(target("pod", None)).await.unwrap();
    let reason = stage.sandbox.end_reason().await.unwrap().unwrap();
    assert!(reason.contains("the guest kernel panicked") && reason.contains(PANIC), "{reason}");
}

#[tokio::test]
async fn machine_killed_by_the_host_for_want_of_memory_is_told_as_such() {
    let mut stage = Stage::running().await;
    container(&stage, true).await;
    stage.out_of_memory(48);
    let _never = stage.agent.hold("Process/Start");
    exec(&stage, StdioPaths::default()).await;
    stage.agent.called::<ProcessId>("Process/Start").await;
    let starting = stage.sandbox.start_process(target("web", Some("e")));
    let ending = async {
        stage.agent.called::<ProcessId>("Process/Start").await;
        stage.agent.disconnect();
        stage.vmm.kill();
    };
    let (started, ()) = tokio::join!(starting, ending);
    told(&started.unwrap_err(), &["want of memory", "limit of 48 MiB", "cgroup"]);
    assert_eq!(stage.sandbox.wait(target("web", None)).await.unwrap().status, 137);
    let mut kinds = Vec::new();
    while let Ok(event) = stage.events.try_recv() {
        kinds.push(event.kind);
    }
    let oom = kinds.iter().position(|kind| *kind == EventKind::OutOfMemory);
    let exit = kinds.iter().position(|kind| matches!(kind, EventKind::Exited { exec: None, .. }));
    assert!(oom.unwrap() < exit.unwrap(), "{kinds:?}");
}

#[tokio::test]
async fn machine_that_dies_of_want_of_memory_while_it_is_told_to_end_is_told_as_such() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    stage.out_of_memory(48);
    stage.agent.disconnect();
    stage.vmm.hang().await;
    stage.vmm.kill();
    assert_eq!(stage.sandbox.wait(target("web", None)).await.unwrap().status, 137);
    let reason = stage.sandbox.end_reason().await.unwrap().unwrap();
    assert!(reason.contains("want of memory") && reason.contains("limit of 48 MiB"), "{reason}");
}

#[tokio::test]
async fn killed_machine_is_told_without_what_its_guest_said_last() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    stage.agent.disconnect();
    stage.vmm.kill();
    stage.sandbox.wait(target("web", None)).await.unwrap();
    let error = stage.sandbox.pod_stats().await.unwrap_err();
    let Error::MachineEnded(reason) = error else { panic!("{error:?}") };
    assert!(reason.starts_with("the VMM process was killed (its process was killed by signal 9"));
}

#[tokio::test]
async fn silent_guest_of_a_machine_that_had_to_be_ended_is_to_blame() {
    let stage = Stage::running().await;
    container(&stage, true).await;
    stage.agent.disconnect();
    stage.sandbox.wait(target("web", None)).await.unwrap();
    let error = stage.sandbox.pod_stats().await.unwrap_err();
    let Error::MachineEnded(reason) = error else { panic!("{error:?}") };
    assert!(reason.contains("the connection to the guest broke"), "{reason}");
    assert!(reason.ends_with("the machine was stopped"), "{reason}");
}

/// Ends a sandbox whose guest has been given a disk.
async fn end_with_disk(stage: &Stage, read_only: bool) {
    let live = stage.sandbox.look(|owner| Ok(owner.booted()?.live)).await.unwrap();
    let disk = AttachResponse { device: "/dev/vdb".into(), ..Default::default() };
    stage.agent.answer("Storage/Attach", Answer::message(&disk));
    crate::storage::attach_disk(tempfile::tempfile().unwrap(), read_only, &live).await;
    assert!(stage.sandbox.shutdown(Shutdown::Now).await.unwrap());
}

#[tokio::test]
async fn disk_to_write_to_earns_the_guest_a_power_off() {
    let stage = Stage::running().await;
    end_with_disk(&stage, false).await;
    stage.agent.called::<Empty>("Sandbox/Shutdown").await;
    stage.vmm.end(MachineEnd::PowerOff);
    stage.sandbox.closed().await;
    let stage = Stage::running().await;
    end_with_disk(&stage, true).await;
    stage.sandbox.closed().await;
    assert!(!stage.agent.was_called("Sandbox/Shutdown"));
}

#[tokio::test]
async fn end_asked_for_during_a_boot_ends_the_boot() {
    let stage = Stage::booting().await;
    let creating = stage.sandbox.create(stage.request("web"));
    let ending = async {
        stage.sandbox.shutdown(Shutdown::Now).await.unwrap();
        stage.sandbox.closed().await;
    };
    let (created, ()) = tokio::join!(creating, ending);
    assert!(matches!(created, Err(Error::Unavailable(_))), "{created:?}");
    assert!(!stage.agent.was_called("Sandbox/Configure"));
}

#[tokio::test]
async fn pod_whose_maker_has_gone_ends() {
    let stage = Stage::booting().await;
    let id = ContainerId::new("pod").unwrap();
    let holding = stage.sandbox.hold(id, crate::Pod::default(), Vec::new());
    tokio::select! {
        biased;
        held = holding => panic!("{held:?}"),
        // It has been asked for then.
        () = async { stage.sandbox.look(|_| Ok(())).await.unwrap() } => {}
    }
    stage.vmm.ready();
    stage.sandbox.closed().await;
}
