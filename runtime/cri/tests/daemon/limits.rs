//! Requests beyond all bounds.

use harness::cri::api;
use tonic::Code;

use crate::node::{Node, container, image};
use crate::shims::Say;

const MEGABYTE: usize = 1 << 20;

/// What is said of it: short, and by name.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, word: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(word), "{word}: {status:?}");
    assert!(status.message().len() < 600, "{} bytes", status.message().len());
}

/// A field, and what puts a text into it.
type Wrong<T> = (&'static str, fn(&mut T, String));

#[test]
fn names_and_labels_of_a_megabyte_are_refused_by_their_field() {
    let node = Node::new();
    node.pull();
    let long = || "x".repeat(MEGABYTE);
    let wrong: [Wrong<api::PodSandboxConfig>; 8] = [
        ("metadata.name", |pod, text| pod.metadata.as_mut().unwrap().name = text),
        ("metadata.uid", |pod, text| pod.metadata.as_mut().unwrap().uid = text),
        ("metadata.namespace", |pod, text| pod.metadata.as_mut().unwrap().namespace = text),
        ("labels", |pod, text| drop(pod.labels.insert("a".into(), text))),
        ("labels", |pod, text| drop(pod.labels.insert(text, "a".into()))),
        ("annotations", |pod, text| drop(pod.annotations.insert("a".into(), text))),
        ("hostname", |pod, text| pod.hostname = text),
        ("log_directory", |pod, text| pod.log_directory = format!("/{text}")),
    ];
    for (field, spoil) in wrong {
        let mut config = node.pod("web");
        spoil(&mut config, long());
        refused(node.run(&config), field);
    }
    let mut many = node.pod("web");
    many.labels = (0..60_000).map(|number| (format!("label{number}"), "x".into())).collect();
    refused(node.run(&many), "labels");
    assert_eq!(node.executed("cni", "ADD") + node.executed("shim", "start"), 0);
    node.is_clean();

    let config = node.pod("web");
    let pod = node.run(&config).unwrap();
    let wrong: [Wrong<api::ContainerConfig>; 5] = [
        ("metadata.name", |own, text| own.metadata.as_mut().unwrap().name = text),
        ("labels", |own, text| drop(own.labels.insert("a".into(), text))),
        ("annotations", |own, text| drop(own.annotations.insert("a".into(), text))),
        ("log_path", |own, text| own.log_path = text),
        ("image", |own, text| own.image = Some(image(&text))),
    ];
    for (field, spoil) in wrong {
        let mut wanted = container("main");
        spoil(&mut wanted, long());
        refused(node.create(&pod, &config, &wanted), field);
    }
    assert!(node.containers().is_empty());
    let name = long();
    let mut images = node.cri().image_service();
    let request = api::PullImageRequest { image: Some(image(&name)), ..Default::default() };
    refused(node.cri().wait(images.pull_image(request)), "characters");
    let mut runtime = node.cri().runtime_service();
    let message =
        api::RunPodSandboxRequest { config: Some(node.pod("other")), runtime_handler: name };
    refused(node.cri().wait(runtime.run_pod_sandbox(message)), "handler");
    let log = node.log();
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < 4096, "a line of the log has {longest} bytes");
    node.remove(&pod);
    node.is_clean();
}

fn limits(memory: i64) -> api::LinuxContainerResources {
    api::LinuxContainerResources { memory_limit_in_bytes: memory, ..Default::default() }
}

/// The kubelet asks before it writes the pod's cgroup, and again with the old values when that
/// fails.
#[test]
fn resize_that_the_shim_refuses_changes_nothing_and_the_old_size_is_taken() {
    let node = Node::new();
    node.pull();
    let (pod, id) = node.running("web");
    let before = (node.status(&id), node.pod_status(&pod));
    let resize = |memory| {
        let request = api::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: pod.clone(),
            overhead: None,
            resources: Some(limits(memory)),
        };
        let mut service = node.cri().runtime_service();
        node.cri().wait(service.update_pod_sandbox_resources(request))
    };
    let update = |memory| {
        let request = api::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(limits(memory)),
            ..Default::default()
        };
        let mut service = node.cri().runtime_service();
        node.cri().wait(service.update_container_resources(request))
    };
    let word = "the machine has 512 MiB, 8796093022208 were asked for";
    // As our shim does: by the numbers in what it is told.
    node.shims.rule(move |request| {
        let text = String::from_utf8_lossy(&request.payload);
        let beyond = request.method.starts_with("Update") && text.contains("8796093022208");
        beyond.then_some(Say::Refuse(ttrpc::Code::FAILED_PRECONDITION, word))
    });
    let vetoed = resize(8 << 40).unwrap_err();
    assert!(vetoed.message().contains(word), "{vetoed:?}");
    let vetoed = update(8 << 40).unwrap_err();
    assert!(vetoed.message().contains(word), "{vetoed:?}");
    assert_eq!((node.status(&id), node.pod_status(&pod)), before);
    resize(512 << 20).unwrap();
    update(256 << 20).unwrap();
    let told = node.status(&id).resources.unwrap().linux.unwrap();
    assert_eq!(told.memory_limit_in_bytes, 256 << 20);
    assert!(update(8 << 40).is_err());
    assert_eq!(node.status(&id).resources.unwrap().linux.unwrap(), told, "as it was applied");
    node.shims.usual();
    node.remove(&pod);
    node.is_clean();
}
