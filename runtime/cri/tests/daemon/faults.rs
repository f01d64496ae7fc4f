//! Shims that die, hang or refuse, and containers that can't be made.

use std::time::{Duration, Instant};

use harness::cri::api::{self, ContainerState, PodSandboxState};
use harness::eventually;
use tonic::Code;

use crate::node::{Node, container, create_request, image};
use crate::shims::Say;

#[test]
fn shim_that_dies_takes_its_pod_along_and_nobody_elses() {
    let node = Node::new();
    node.pull();
    let (pod, of_pod) = node.running("dies");
    let (other, of_other) = node.running("lives");
    node.shims.of(&pod).kill();
    let ended = node.exited(&of_pod);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "Error"));
    assert_eq!(ended.message, "the pod's shim ended unexpectedly");
    assert_eq!(node.pod_status(&pod).state(), PodSandboxState::SandboxNotready);
    assert_eq!(node.executed("shim", "delete"), 1, "what it had is cleaned up");
    let config = node.pod("dies");
    eventually("who wants more of it is told why not", || {
        let refused = node.create(&pod, &config, &container("more")).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        refused.message().contains("shim ended unexpectedly")
    });
    assert_eq!(node.status(&of_other).state(), ContainerState::ContainerRunning);
    node.remove(&pod);
    node.remove(&other);
    node.is_clean();
}

/// What it does not answer is asked for again by who wants it, and done once.
#[test]
fn shim_that_stands_still_holds_up_its_own_pod_alone() {
    let node = Node::new();
    node.pull();
    let (hangs, of_hangs) = node.running("hangs");
    let (lives, of_lives) = node.running("lives");
    let shim = node.shims.of(&hangs);
    let frozen = shim.freeze();
    let config = node.pod("hangs");
    let mut request = tonic::Request::new(create_request(&hangs, &config, &container("late")));
    request.set_timeout(Duration::from_secs(1));
    let late = node.cri().wait(node.cri().runtime_service().create_container(request));
    let late = late.unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    let begun = Instant::now();
    assert_eq!(node.pods().len(), 2);
    assert_eq!(node.status(&of_hangs).state(), ContainerState::ContainerRunning);
    let more = node.create(&lives, &node.pod("lives"), &container("more")).unwrap();
    node.start_container(&more).unwrap();
    node.shims.of(&lives).exit(&of_lives, 0);
    node.exited(&of_lives);
    node.remove(&lives);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(frozen);
    let id = node.create(&hangs, &config, &container("late")).unwrap();
    assert_eq!(shim.count("Create"), 2, "the first container, and one more");
    assert!(shim.has(&id));
    node.remove(&hangs);
    node.is_clean();
}

/// A request, what is wrong with it, and a word of what is said about it.
type Wrong = (&'static str, fn(&mut api::ContainerConfig), Code, &'static str);

#[test]
fn container_that_can_not_be_made_leaves_nothing() {
    let node = Node::new();
    let id = node.pull();
    let config = node.pod("web");
    let pod = node.run(&config).unwrap();
    let before = node.remains();
    let wrong: [Wrong; 4] = [
        (
            "an image that is not here",
            |config| config.image = Some(image("nowhere/none:1")),
            Code::NotFound,
            "nowhere/none:1",
        ),
        (
            "nothing to run",
            |config| config.command.clear(),
            Code::InvalidArgument,
            "no command specified",
        ),
        (
            "a restart policy that is none",
            |config| drop(config.annotations.insert("dev.cuddy.restart".into(), "perhaps".into())),
            Code::InvalidArgument,
            "perhaps",
        ),
        (
            "a mount of what can't be made",
            |config| {
                config.mounts.push(api::Mount {
                    host_path: "/proc/self/none".into(),
                    container_path: "/data".into(),
                    ..Default::default()
                });
            },
            Code::InvalidArgument,
            "/proc/self/none",
        ),
    ];
    for (what, spoil, code, word) in wrong {
        let mut wanted = container("main");
        spoil(&mut wanted);
        let refused = node.create(&pod, &config, &wanted).unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused:?}");
        assert!(refused.message().contains(word), "{what}: {refused:?}");
        assert_eq!((node.remains(), node.containers().len()), (before.clone(), 0), "{what}");
    }
    let word = "no room in the guest";
    node.shims.say("Create", Say::Refuse(ttrpc::Code::RESOURCE_EXHAUSTED, word));
    let refused = node.create(&pod, &config, &container("main")).unwrap_err();
    assert!(refused.message().contains(word), "{refused:?}");
    assert_eq!((node.remains(), node.containers().len()), (before, 0));
    node.shims.usual();
    // Its name is free, and nothing holds its image.
    node.create(&pod, &config, &container("main")).unwrap();
    node.remove(&pod);
    let remove = api::RemoveImageRequest { image: Some(image(&id)) };
    node.cri().wait(node.cri().image_service().remove_image(remove)).unwrap();
    assert_eq!(layers(&node), 0, "they are freed at once");
    node.is_clean();
}

/// How many layers are there.
fn layers(node: &Node) -> usize {
    let mut command = std::process::Command::new("find");
    let found = command.arg(node.path("root/images")).args(["-name", "*.erofs"]).output();
    String::from_utf8(found.unwrap().stdout).unwrap().lines().count()
}

#[test]
fn image_that_a_container_has_as_a_volume_is_freed_with_the_container() {
    let node = Node::new();
    node.pull();
    let id = node.pull_tag("volume");
    let config = node.pod("web");
    let pod = node.run(&config).unwrap();
    let mut wanted = container("main");
    wanted.mounts.push(api::Mount {
        container_path: "/data".into(),
        readonly: true,
        image: Some(image("test/image:volume")),
        ..Default::default()
    });
    let made = node.create(&pod, &config, &wanted).unwrap();
    let told = node.status(&made).mounts.remove(0).image.unwrap();
    assert_eq!(told.image_ref, id, "a kubelet looks for it there");
    let remove = api::RemoveImageRequest { image: Some(image(&id)) };
    node.cri().wait(node.cri().image_service().remove_image(remove)).unwrap();
    assert_eq!(layers(&node), 2, "the container has it still");
    let request = api::RemoveContainerRequest { container_id: made };
    node.cri().wait(node.cri().runtime_service().remove_container(request)).unwrap();
    assert_eq!(layers(&node), 1, "and nobody has it any more");
    node.remove(&pod);
    node.is_clean();
}

#[test]
fn process_that_can_not_be_started_has_ended_and_says_why() {
    let node = Node::new();
    node.pull();
    let config = node.pod("web");
    let pod = node.run(&config).unwrap();
    let id = node.create(&pod, &config, &container("main")).unwrap();
    let word = "exec: \"/sleep\": no such file or directory";
    node.shims.say("Start", Say::Refuse(ttrpc::Code::UNKNOWN, word));
    let refused = node.start_container(&id).unwrap_err();
    assert!(refused.message().contains(word), "{refused:?}");
    let status = node.exited(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert!(status.message.contains(word), "{status:?}");
    node.shims.usual();
    node.remove(&pod);
    node.is_clean();
}

/// The old file goes on, and the kubelet puts it back: see the crate `logs`.
#[test]
fn log_that_can_not_be_opened_anew_is_told_by_its_name() {
    let node = Node::new();
    node.pull();
    let (pod, id) = node.running("web");
    let word = "opening /logs/web/main/0.log: No such file or directory";
    node.shims.say("ReopenLog", Say::Refuse(ttrpc::Code::UNKNOWN, word));
    let request = api::ReopenContainerLogRequest { container_id: id.clone() };
    let mut service = node.cri().runtime_service();
    let refused = node.cri().wait(service.reopen_container_log(request)).unwrap_err();
    assert!(refused.message().contains(word), "{refused:?}");
    assert_eq!(node.status(&id).state(), ContainerState::ContainerRunning);
    node.shims.usual();
    let _ends = node.shims.of(&pod).calls();
    node.remove(&pod);
    eventually("the shim has ended", || node.remains().is_empty());
    node.is_clean();
}

#[test]
fn container_that_can_not_be_removed_is_listed_until_it_is() {
    let node = Node::new();
    node.pull();
    let (pod, id) = node.running("web");
    let remove = || {
        let request = api::RemoveContainerRequest { container_id: id.clone() };
        node.cri().wait(node.cri().runtime_service().remove_container(request))
    };
    node.shims.say("Delete", Say::Refuse(ttrpc::Code::UNKNOWN, "its disk does not answer"));
    let refused = remove().unwrap_err();
    assert!(refused.message().contains("its disk does not answer"), "{refused:?}");
    let listed = node.containers();
    let listed: Vec<_> = listed.iter().map(|one| (one.id.clone(), one.state())).collect();
    assert_eq!(listed, [(id.clone(), ContainerState::ContainerExited)]);
    assert_eq!(node.status(&id).state(), ContainerState::ContainerExited);
    node.shims.usual();
    remove().unwrap();
    assert!(node.containers().is_empty());
    node.remove(&pod);
    node.is_clean();
}
