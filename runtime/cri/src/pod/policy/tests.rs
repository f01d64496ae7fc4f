use protocol::cri::{ContainerConfig, ContainerMetadata, PodSandboxConfig};

use super::*;

fn config(name: &str, log: &str) -> ContainerConfig {
    let metadata = Some(ContainerMetadata { name: name.into(), attempt: 0 });
    ContainerConfig { metadata, log_path: log.into(), ..ContainerConfig::default() }
}

fn container(id: &str, phase: ContainerPhase) -> Container {
    let config = Some(config(id, ""));
    Container { id: id.into(), config, phase: phase.into(), ..Container::default() }
}

fn pod(phase: PodPhase) -> Pod {
    Pod { id: "p".into(), phase: phase.into(), has_shim: true, ..Pod::default() }
}

/// What is said of the situation with these containers, and these jobs under way.
fn said(
    pod: &Pod,
    containers: &[Container],
    busy: &[Job],
    ask: impl Fn(&Situation<'_>) -> Verdict,
) -> Verdict {
    let busy = busy.iter().cloned().collect();
    ask(&Situation { pod, containers, busy: &busy })
}

fn refused(verdict: &Verdict, words: &str) -> bool {
    matches!(verdict, Verdict::Refuse(fault) if fault.to_string().contains(words))
}

#[test]
fn container_that_is_asked_for_again_is_the_same_one() {
    let ready = pod(PodPhase::Ready);
    let rows = [container("a", ContainerPhase::Running)];
    let ask = |name: &str, log: &str, busy: &[Job]| {
        said(&ready, &rows, busy, |now| now.create(&config(name, log)))
    };
    assert_eq!(ask("b", "", &[]), Verdict::Begin);
    assert_eq!(ask("b", "", &[Job::Create("b".into(), 0)]), Verdict::Join);
    assert_eq!(ask("a", "", &[]), Verdict::Done("a".into()));
    assert!(refused(&ask("a", "0.log", &[]), "another configuration"));
}

#[test]
fn container_whose_name_is_being_removed_waits_for_that() {
    let rows = [container("a", ContainerPhase::Removing)];
    let busy = [Job::Remove("a".into())];
    let verdict = said(&pod(PodPhase::Ready), &rows, &busy, |now| now.create(&config("a", "")));
    assert_eq!(verdict, Verdict::After(Job::Remove("a".into())));
}

/// Whoever waited for a job that nobody does would wait for ever.
#[test]
fn container_that_is_there_by_half_is_refused() {
    let ask = |phase, busy: &[Job]| {
        let rows = [container("a", phase)];
        said(&pod(PodPhase::Ready), &rows, busy, |now| now.create(&config("a", "")))
    };
    let own = Job::Create("a".into(), 0);
    assert_eq!(ask(ContainerPhase::Creating, &[own]), Verdict::Join);
    for phase in [ContainerPhase::Creating, ContainerPhase::Removing] {
        assert!(refused(&ask(phase, &[]), "remove it, or the pod"), "{phase:?}");
    }
}

#[test]
fn pod_that_ends_takes_no_container() {
    let ask = |pod: &Pod, busy: &[Job]| said(pod, &[], busy, |now| now.create(&config("a", "")));
    assert!(refused(&ask(&pod(PodPhase::Ready), &[Job::StopPod]), "is being stopped"));
    assert!(refused(&ask(&pod(PodPhase::Stopped), &[]), "is stopped"));
    let reason = "guest kernel panic".to_owned();
    let died = Pod { reason, ..pod(PodPhase::Stopped) };
    assert!(refused(&ask(&died, &[]), "guest kernel panic"));
}

#[test]
fn start_fits_a_created_container_alone() {
    let ready = pod(PodPhase::Ready);
    let ask =
        |phase, busy: &[Job]| said(&ready, &[container("a", phase)], busy, |now| now.start("a"));
    assert_eq!(ask(ContainerPhase::Created, &[]), Verdict::Begin);
    assert_eq!(ask(ContainerPhase::Created, &[Job::Start("a".into())]), Verdict::Join);
    assert_eq!(ask(ContainerPhase::Running, &[]), Verdict::Done("a".into()));
    assert!(refused(&ask(ContainerPhase::Exited, &[]), "has ended"));
    assert!(refused(&said(&ready, &[], &[], |now| now.start("x")), "no container \"x\""));
}

#[test]
fn stop_waits_for_a_start_and_is_done_for_what_does_not_run() {
    let ready = pod(PodPhase::Ready);
    let ask =
        |phase, busy: &[Job]| said(&ready, &[container("a", phase)], busy, |now| now.stop("a"));
    let start = Job::Start("a".into());
    assert_eq!(ask(ContainerPhase::Created, std::slice::from_ref(&start)), Verdict::After(start));
    assert_eq!(ask(ContainerPhase::Running, &[]), Verdict::Begin);
    assert_eq!(ask(ContainerPhase::Running, &[Job::Stop("a".into())]), Verdict::Join);
    for phase in [ContainerPhase::Created, ContainerPhase::Exited] {
        assert_eq!(ask(phase, &[]), Verdict::Done("a".into()));
    }
    assert_eq!(said(&ready, &[], &[], |now| now.stop("x")), Verdict::Done("x".into()));
}

#[test]
fn removal_goes_beside_a_stop_but_not_beside_a_start() {
    let ready = pod(PodPhase::Ready);
    let rows = [container("a", ContainerPhase::Running)];
    let ask = |busy: &[Job]| said(&ready, &rows, busy, |now| now.remove("a"));
    assert_eq!(ask(&[Job::Stop("a".into())]), Verdict::Begin);
    assert_eq!(ask(&[Job::Start("a".into())]), Verdict::After(Job::Start("a".into())));
    assert_eq!(ask(&[Job::Remove("a".into())]), Verdict::Join);
    assert_eq!(said(&ready, &[], &[], |now| now.remove("a")), Verdict::Done("a".into()));
}

#[test]
fn updates_go_one_after_the_other() {
    let ready = pod(PodPhase::Ready);
    let ask =
        |phase, busy: &[Job]| said(&ready, &[container("a", phase)], busy, |now| now.update("a"));
    assert_eq!(ask(ContainerPhase::Running, &[]), Verdict::Begin);
    let update = Job::Update("a".into());
    assert_eq!(ask(ContainerPhase::Running, std::slice::from_ref(&update)), Verdict::After(update));
    assert!(refused(&ask(ContainerPhase::Exited, &[]), "can't be updated"));
    let resize = |busy: &[Job]| said(&ready, &[], busy, |now| now.resize());
    assert_eq!(resize(&[Job::Resize]), Verdict::After(Job::Resize));
    assert!(refused(&resize(&[Job::StopPod]), "is being stopped"));
}

#[test]
fn pod_that_died_is_stopped_all_the_same_once() {
    let died = pod(PodPhase::Stopped);
    assert_eq!(said(&died, &[], &[], |now| now.stop_pod()), Verdict::Begin);
    let stopped = Pod { has_shim: false, ..died };
    assert_eq!(said(&stopped, &[], &[], |now| now.stop_pod()), Verdict::Done("p".into()));
    let with_network = Pod { attachment: vec![1], ..stopped };
    assert_eq!(said(&with_network, &[], &[], |now| now.stop_pod()), Verdict::Begin);
}

#[test]
fn removal_of_a_pod_waits_for_its_stop_and_answers_later_stops() {
    let ready = pod(PodPhase::Ready);
    let remove = |busy: &[Job]| said(&ready, &[], busy, |now| now.remove_pod());
    assert_eq!(remove(&[]), Verdict::Begin);
    assert_eq!(remove(&[Job::StopPod]), Verdict::After(Job::StopPod));
    assert_eq!(remove(&[Job::RemovePod]), Verdict::Join);
    assert_eq!(said(&ready, &[], &[Job::RemovePod], |now| now.stop_pod()), Verdict::Join);
}

#[test]
fn pod_that_ends_with_its_containers_waits_for_the_last() {
    let mut own = pod(PodPhase::Ready);
    let annotations = [("dev.cuddy.ends-with-containers".to_owned(), "true".to_owned())].into();
    own.config = Some(PodSandboxConfig { annotations, ..PodSandboxConfig::default() });
    let ended = Container { finished_at: 9, ..container("a", ContainerPhase::Exited) };
    let ask = |pod: &Pod, more: &[Container], busy: &[Job]| {
        let rows = [std::slice::from_ref(&ended), more].concat();
        said(pod, &rows, busy, |now| now.stop_idle())
    };
    let goes_on = Verdict::Done("p".into());
    assert_eq!(ask(&own, &[], &[]), Verdict::Begin);
    assert_eq!(ask(&own, &[], &[Job::StopPod]), Verdict::Join);
    assert_eq!(ask(&pod(PodPhase::Ready), &[], &[]), goes_on, "a kubelet's");
    assert_eq!(said(&own, &[], &[], |now| now.stop_idle()), goes_on, "it has had none yet");
    for phase in [ContainerPhase::Creating, ContainerPhase::Created, ContainerPhase::Running] {
        assert_eq!(ask(&own, &[container("b", phase)], &[]), goes_on, "{phase:?}");
    }
    for job in [Job::Create("b".into(), 0), Job::Start("b".into())] {
        assert_eq!(ask(&own, &[], &[job]), goes_on);
    }
    let left = |pod: &Pod, rows: &[Container], busy: &[Job]| {
        let busy = busy.iter().cloned().collect();
        Situation { pod, containers: rows, busy: &busy }.is_left()
    };
    assert!(left(&own, &[], &[]) && !left(&pod(PodPhase::Ready), &[], &[]));
    assert!(!left(&own, std::slice::from_ref(&ended), &[]));
    assert!(!left(&own, &[], &[Job::Create("b".into(), 0)]));
}

#[test]
fn container_that_is_due_runs_again_unless_it_is_stopped_meanwhile() {
    let ready = pod(PodPhase::Ready);
    let mut due = container("a", ContainerPhase::Exited);
    due.started_at = 1;
    let config = due.config.get_or_insert_default();
    config.annotations.insert(restart::ANNOTATION.into(), "always".into());
    let ask = |row: &Container, busy: &[Job]| {
        said(&ready, std::slice::from_ref(row), busy, |now| now.restart("a"))
    };
    let own = Job::Restart("a".into());
    assert_eq!(ask(&due, &[]), Verdict::Begin);
    assert_eq!(ask(&due, std::slice::from_ref(&own)), Verdict::Join);
    for job in [Job::Stop("a".into()), Job::Remove("a".into())] {
        assert_eq!(ask(&due, std::slice::from_ref(&job)), Verdict::After(job));
    }
    assert!(refused(&ask(&due, &[Job::StopPod]), "is being stopped"));
    let stop = |row: &Container, busy: &[Job]| {
        said(&ready, std::slice::from_ref(row), busy, |now| now.stop("a"))
    };
    assert_eq!(stop(&due, &[]), Verdict::Begin, "so that it is on record");
    assert_eq!(stop(&due, std::slice::from_ref(&own)), Verdict::After(own.clone()));
    let remove =
        said(&ready, std::slice::from_ref(&due), std::slice::from_ref(&own), |now| now.remove("a"));
    assert_eq!(remove, Verdict::After(own));
    due.stopped = true;
    assert_eq!(ask(&due, &[]), Verdict::Done("a".into()));
    assert_eq!(stop(&due, &[]), Verdict::Done("a".into()));
}
