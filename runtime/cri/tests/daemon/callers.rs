//! Callers that disappear in the middle of something, and one without the right to call.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use harness::cri::api::{self, ContainerState};
use harness::eventually;
use tonic::{Response, Status};

use crate::node::{Node, container, create_request, image};
use crate::shims::{Gate, Say};

/// Makes a call, and hangs up as soon as `begun`.
fn hang_up<T>(
    node: &Node,
    call: impl Future<Output = Result<Response<T>, Status>>,
    begun: impl Fn() -> bool,
) {
    let gone = node.cri().wait(async {
        let seen = async {
            while !begun() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = call => answer,
            () = seen => Err(Status::cancelled("hung up")),
        }
    });
    assert_eq!(gone.err().unwrap().message(), "hung up");
}

/// The kubelet's next look shows what became of it, and its next call gets the same.
#[test]
fn what_was_begun_for_a_caller_that_went_goes_on() {
    let node = Node::new();
    node.pull();
    let config = node.pod("web");
    let pod = node.run(&config).unwrap();
    let shim = node.shims.of(&pod);

    let gate = Gate::new();
    node.shims.say("Create", Say::Wait(gate.clone()));
    let mut service = node.cri().runtime_service();
    let create = service.create_container(create_request(&pod, &config, &container("main")));
    hang_up(&node, create, || shim.count("Create") == 1);
    gate.open();
    let id = node.create(&pod, &config, &container("main")).unwrap();
    assert_eq!(shim.count("Create"), 1);

    let gate = Gate::new();
    node.shims.say("Start", Say::Wait(gate.clone()));
    let mut service = node.cri().runtime_service();
    let start = service.start_container(api::StartContainerRequest { container_id: id.clone() });
    hang_up(&node, start, || shim.count("Start") == 1);
    gate.open();
    let runs = || node.status(&id).state() == ContainerState::ContainerRunning;
    eventually("the container runs", runs);
    node.start_container(&id).unwrap();
    assert_eq!(shim.count("Start"), 1);

    let gate = Gate::new();
    node.shims.say("Kill", Say::Wait(gate.clone()));
    let mut service = node.cri().runtime_service();
    let stop = api::StopContainerRequest { container_id: id.clone(), timeout: 0 };
    hang_up(&node, service.stop_container(stop), || shim.count("Kill") == 1);
    gate.open();
    assert_eq!(node.exited(&id).exit_code, 137);

    let gate = Gate::new();
    node.shims.say("Delete", Say::Wait(gate.clone()));
    let mut service = node.cri().runtime_service();
    let remove = api::RemoveContainerRequest { container_id: id.clone() };
    hang_up(&node, service.remove_container(remove), || shim.count("Delete") == 1);
    gate.open();
    eventually("the container is gone", || !shim.has(&id) && node.remains().len() == 2);

    let gate = Gate::new();
    node.shims.say("StopSandbox", Say::Wait(gate.clone()));
    let mut service = node.cri().runtime_service();
    let stop = api::StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
    hang_up(&node, service.stop_pod_sandbox(stop), || shim.count("StopSandbox") == 1);
    gate.open();
    eventually("the network is gone", || node.executed("cni", "DEL") == 1);
    node.shims.usual();
    node.remove(&pod);
    node.is_clean();
}

#[test]
fn caller_without_the_right_is_told_so_in_each_service() {
    let node = Node::new();
    // The socket's mode may be changed by somebody, and then the daemon itself looks.
    let mode = |name: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(node.path(name), permissions).unwrap();
    };
    mode("", 0o755);
    let calls = |user: u32| {
        let socket = node.path("cri.sock");
        let child = std::process::Command::new("setpriv")
            .args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "callers::caller", "--ignored", "--nocapture"])
            .env("CUDDY_TEST_SOCKET", socket)
            .output()
            .unwrap();
        String::from_utf8(child.stdout).unwrap()
    };
    let denied = calls(65_534);
    assert!(denied.contains("connecting failed"), "{denied}");
    mode("cri.sock", 0o666);
    let denied = calls(65_534);
    let why = "PermissionDenied: user 65534 is neither root nor in the group \"none\"";
    assert_eq!(denied.matches(why).count(), 2, "{denied}");
    assert!(node.pods().is_empty());
    let allowed = calls(0);
    assert_eq!(allowed.matches("answered").count(), 2, "{allowed}");
}

#[test]
#[ignore = "the caller of the test above, in a process of its own"]
fn caller() {
    let Some(socket) = std::env::var_os("CUDDY_TEST_SOCKET") else { return };
    if let Err(error) = std::os::unix::net::UnixStream::connect(&socket) {
        return println!("connecting failed: {error}");
    }
    let cri = harness::cri::Cri::connect(socket.as_ref());
    let told = |answer: Result<(), Status>| match answer {
        Ok(()) => println!("answered"),
        Err(status) => println!("{:?}: {}", status.code(), status.message()),
    };
    let mut runtime = cri.runtime_service();
    let version = runtime.version(api::VersionRequest::default());
    told(cri.wait(version).map(drop));
    let mut images = cri.image_service();
    let request = api::ImageStatusRequest { image: Some(image("a")), ..Default::default() };
    told(cri.wait(images.image_status(request)).map(drop));
}
