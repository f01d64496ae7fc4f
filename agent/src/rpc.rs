//! The services of agent-api. Each verb with more than a line of work has a file of its own; it
//! reads the request, calls the domain and answers. There is no state here.

mod admitted;
mod container;
mod health;
mod network;
mod process;
mod sandbox;
mod status;
mod storage;

use std::collections::HashMap;
use std::sync::Arc;

use agent_api::types::Empty;
use agent_api::{
    container_ttrpc, health_ttrpc, network_ttrpc, process_ttrpc, sandbox_ttrpc, storage_ttrpc,
};
use ttrpc::r#async::Service;

use crate::error::{Error, Result};
use crate::sandbox::Sandbox;

/// Every service, to be registered with a server.
pub(crate) fn services(sandbox: &Arc<Sandbox>) -> Vec<HashMap<String, Service>> {
    let all = [
        health_ttrpc::create_health(Arc::new(health::HealthService)),
        sandbox_ttrpc::create_sandbox(Arc::new(sandbox::SandboxService(Arc::clone(sandbox)))),
        storage_ttrpc::create_storage(Arc::new(storage::StorageService::default())),
        network_ttrpc::create_network(Arc::new(network::NetworkService::default())),
        container_ttrpc::create_container(Arc::new(container::ContainerService(Arc::clone(
            sandbox,
        )))),
        process_ttrpc::create_process(Arc::new(process::ProcessService(Arc::clone(sandbox)))),
    ];
    all.map(|service| admitted::behind(sandbox.admission(), service)).into()
}

/// Finishes work even if the host drops the connection meanwhile, which cancels its handlers:
/// half a container would be in nobody's table.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> ttrpc::Result<T> {
    match tokio::spawn(work).await {
        Ok(result) => result.map_err(status::of),
        Err(panic) => Err(status::internal(&panic)),
    }
}

/// Work that blocks in the kernel, on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> ttrpc::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(status::of),
        Err(panic) => Err(status::internal(&panic)),
    }
}

fn done(_: ()) -> Empty {
    Empty::default()
}

/// Parses a JSON part of a request.
fn parse<T: serde::de::DeserializeOwned>(what: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::Invalid(format!("{what}: {error}")))
}
