//! The Sandbox service of the real shim binary, as far as no machine is needed.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

#[path = "host/daemon.rs"]
mod host;

use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, PingRequest, PlatformRequest, SandboxMetricsRequest,
    SandboxStatusRequest, ShutdownSandboxRequest, StartSandboxRequest, StopSandboxRequest,
    WaitSandboxRequest,
};
use containerd_shim_protos::sandbox_async::SandboxClient;
use host::{Host, code};
use protocol::update::UpdateSandboxRequest;
use protocol::update_ttrpc::SandboxClient as UpdateClient;
use ttrpc::Code;
use ttrpc::context::Context;

async fn connect(address: &str) -> SandboxClient {
    SandboxClient::new(Host::client(address).await)
}

fn id() -> String {
    "web".to_owned()
}

#[tokio::test]
async fn sandbox_that_was_never_made_is_not_found_and_shutdown_works() {
    let host = Host::new();
    let address = host.start();
    let client = connect(&address).await;
    let updates = UpdateClient::new(Host::client(&address).await);
    let context = Context::default;
    let status = SandboxStatusRequest { sandbox_id: id(), ..Default::default() };
    assert_eq!(code(client.sandbox_status(context(), &status).await).0, Code::NOT_FOUND);
    let ping = PingRequest { sandbox_id: id(), ..Default::default() };
    assert_eq!(code(client.ping_sandbox(context(), &ping).await).0, Code::NOT_FOUND);
    let start = StartSandboxRequest { sandbox_id: id(), ..Default::default() };
    let (why, text) = code(client.start_sandbox(context(), &start).await);
    assert!(why == Code::FAILED_PRECONDITION && text.contains("not created"), "{text}");
    let create = CreateSandboxRequest { sandbox_id: "db".into(), ..Default::default() };
    assert_eq!(code(client.create_sandbox(context(), &create).await).0, Code::NOT_FOUND);
    let wait = WaitSandboxRequest { sandbox_id: id(), ..Default::default() };
    assert_eq!(code(client.wait_sandbox(context(), &wait).await).0, Code::NOT_FOUND);
    let stop = StopSandboxRequest { sandbox_id: id(), ..Default::default() };
    assert_eq!(code(client.stop_sandbox(context(), &stop).await).0, Code::NOT_FOUND);
    let metrics = SandboxMetricsRequest { sandbox_id: id(), ..Default::default() };
    assert_eq!(code(client.sandbox_metrics(context(), &metrics).await).0, Code::NOT_FOUND);
    let update = UpdateSandboxRequest { sandbox_id: id(), ..Default::default() };
    let (why, text) = code(updates.update_sandbox(context(), &update).await);
    assert!(why == Code::NOT_FOUND && text.contains("web"), "{text}");
    let platform = PlatformRequest { sandbox_id: id(), ..Default::default() };
    let platform = client.platform(context(), &platform).await.unwrap().platform.unwrap();
    assert_eq!((platform.os.as_str(), platform.architecture.is_empty()), ("linux", false));
    let other = PlatformRequest { sandbox_id: "db".into(), ..Default::default() };
    assert_eq!(code(client.platform(context(), &other).await).0, Code::NOT_FOUND);
    let shutdown = ShutdownSandboxRequest { sandbox_id: id(), ..Default::default() };
    client.shutdown_sandbox(context(), &shutdown).await.unwrap();
    host.nothing_left();
}

#[tokio::test]
async fn sandbox_that_can_not_be_made_says_why_and_leaves_nothing() {
    let host = Host::new();
    let client = connect(&host.start()).await;
    let mut create = CreateSandboxRequest { sandbox_id: id(), ..Default::default() };
    create.options.mut_or_insert_default().value = b"\xff\xff".to_vec();
    let (why, text) = code(client.create_sandbox(Context::default(), &create).await);
    assert!(why == Code::INVALID_ARGUMENT && text.contains("configuration of a pod"), "{text}");
    create.options.mut_or_insert_default().value = Vec::new();
    let (_, text) = code(client.create_sandbox(Context::default(), &create).await);
    assert!(text.contains("guest kernel") && text.contains("vmlinux"), "{text}");
    let status = SandboxStatusRequest { sandbox_id: id(), ..Default::default() };
    assert_eq!(code(client.sandbox_status(Context::default(), &status).await).0, Code::NOT_FOUND);
    let shutdown = ShutdownSandboxRequest { sandbox_id: id(), ..Default::default() };
    client.shutdown_sandbox(Context::default(), &shutdown).await.unwrap();
    host.nothing_left();
}
