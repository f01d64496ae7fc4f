//! Our own service of the real shim binary, as far as no machine is needed.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

#[path = "host/daemon.rs"]
mod host;

use containerd_shim_protos::api::ShutdownRequest;
use containerd_shim_protos::shim_async::TaskClient;
use host::{Host, code};
use protocol::shim::{AttachRequest, ListRequest, MetricsRequest, ReopenLogRequest};
use protocol::shim_ttrpc::ShimClient;
use ttrpc::Code;
use ttrpc::context::Context;

#[tokio::test]
async fn pod_without_containers_lists_none_and_knows_no_name() {
    let host = Host::new();
    let address = host.start();
    let client = ShimClient::new(Host::client(&address).await);
    let context = Context::default;
    let list = client.list(context(), &ListRequest::default()).await.unwrap();
    assert!(list.containers.is_empty());
    let metrics = client.metrics(context(), &MetricsRequest::default()).await.unwrap();
    assert!(metrics.pod.is_none() && metrics.containers.is_empty());
    let reopen = |id: &str| ReopenLogRequest { id: id.to_owned(), ..Default::default() };
    let (why, text) = code(client.reopen_log(context(), &reopen("web")).await);
    assert!(why == Code::NOT_FOUND && text.contains("web"), "{text}");
    let (why, text) = code(client.reopen_log(context(), &reopen("../web")).await);
    assert!(why == Code::INVALID_ARGUMENT && text.contains("../web"), "{text}");
    let attach = AttachRequest { id: "web".to_owned(), ..Default::default() };
    assert_eq!(code(client.attach(context(), &attach).await).0, Code::NOT_FOUND);
    let task = TaskClient::new(Host::client(&address).await);
    task.shutdown(context(), &ShutdownRequest::default()).await.unwrap();
    host.nothing_left();
}
