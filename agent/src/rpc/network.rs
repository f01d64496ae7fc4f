//! Network: the pod's network.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agent_api::network::{ApplyRequest, Interface as RpcInterface};
use agent_api::network_ttrpc::Network as NetworkApi;
use agent_api::types::Empty;
use async_trait::async_trait;
use netlink::Kind;
use ttrpc::r#async::TtrpcContext;

use super::{blocking, done};
use crate::error::{Error, Result};
use crate::init;
use crate::network::{Interface, Network, Wanted};
use crate::window::Window;

/// The service.
#[derive(Debug, Default)]
pub(super) struct NetworkService(Arc<Network>);

#[async_trait]
impl NetworkApi for NetworkService {
    async fn apply(&self, _: &TtrpcContext, request: ApplyRequest) -> ttrpc::Result<Empty> {
        let network = Arc::clone(&self.0);
        let apply = move || {
            let sysctls = request.sysctls.clone().into_iter().collect();
            network.apply(&wanted(request)?)?;
            init::set_sysctls(&sysctls).map_err(|failure| Error::Invalid(failure.message))
        };
        blocking(apply).await.map(done)
    }
}

fn wanted(request: ApplyRequest) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    for given in request.interfaces {
        wanted.interfaces.push((given.index, interface(given)?));
    }
    wanted.add(Kind::Address, &request.addresses)?;
    wanted.add(Kind::Neighbour, &request.neighbours)?;
    wanted.add(Kind::Route, &request.routes)?;
    wanted.add(Kind::Rule, &request.rules)?;
    wanted.parameters = parameters(request.parameters)?;
    Ok(wanted)
}

fn interface(given: RpcInterface) -> Result<Interface> {
    let mac = given.mac.as_slice().try_into();
    let mac = mac.map_err(|_| Error::Invalid("hardware address: not 6 bytes".into()))?;
    Ok(Interface {
        window: Window::new(given.window)?,
        name: given.name,
        mac,
        mtu: given.mtu,
        tx_queue_length: given.tx_queue_length,
        flags: given.flags,
        parameters: parameters(given.parameters)?,
    })
}

fn parameters(given: HashMap<String, String>) -> Result<BTreeMap<String, String>> {
    if given.keys().any(|file| file.split('/').any(|part| part == "..")) {
        return Err(Error::Invalid("parameters: not below /proc/sys/net".into()));
    }
    Ok(given.into_iter().collect())
}
