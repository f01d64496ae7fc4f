//! Following the network namespace: interfaces, addresses and routes that come, change and go while
//! the pod runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use network::{Interface, Network, Plan, Watch};
use vmm_api::Window;

use super::{attach, blocking, request, wrong};
use crate::Error;
use crate::guest::Guest;
use crate::machine::Machine;

/// What the guest has been told.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) plan: Plan,
    pub(super) windows: BTreeMap<u32, Window>,
    pub(super) queues: usize,
}

/// Follows until the machine's end, and undoes what was done to the namespace then.
pub(super) async fn run(
    network: Network,
    mut watch: Watch,
    mut known: Known,
    (machine, guest): (Arc<Machine>, Guest),
) {
    let mut network = Some(network);
    let follow = async {
        loop {
            if let Err(error) = watch.changed().await {
                log::warn!("changes of the pod's network are not followed any more: {error}");
                return std::future::pending().await;
            }
            let Some(held) = network.take() else { return };
            let (held, updated) = known.update(held, &machine, &guest).await;
            network = held;
            if let Err(error) = updated {
                log::warn!("following a change of the pod's network: {error}");
            }
        }
    };
    tokio::select! {
        () = follow => {}
        _ = machine.ended() => {}
    }
    // Its drop talks to the kernel.
    let _undone = tokio::task::spawn_blocking(move || drop(network)).await;
}

/// Does something blocking with the namespace and hands it back; it is lost with a panic only.
async fn with<T: Send + 'static>(
    mut network: Network,
    work: impl FnOnce(&mut Network) -> Result<T, network::Error> + Send + 'static,
) -> Result<(Network, Result<T, Error>), Error> {
    blocking(move || {
        let done = work(&mut network).map_err(wrong);
        Ok((network, done))
    })
    .await
}

impl Known {
    async fn update(
        &mut self,
        network: Network,
        machine: &Machine,
        guest: &Guest,
    ) -> (Option<Network>, Result<(), Error>) {
        let mut held = Some(network);
        let updated = self.try_update(&mut held, machine, guest).await;
        (held, updated)
    }

    async fn try_update(
        &mut self,
        held: &mut Option<Network>,
        machine: &Machine,
        guest: &Guest,
    ) -> Result<(), Error> {
        let plan = ask(held, Network::scan).await?;
        if plan == self.plan {
            return Ok(());
        }
        for interface in &plan.interfaces {
            self.welcome(held, interface, machine).await?;
        }
        let goes = |index: &u32| plan.interfaces.iter().all(|own| own.link.index != *index);
        let gone: Vec<u32> = self.windows.keys().copied().filter(goes).collect();
        let windows: Vec<Window> =
            gone.iter().filter_map(|index| self.windows.remove(index)).collect();
        guest.apply_network(&request::describe(&plan, &self.windows)).await?;
        self.plan = plan;
        for index in gone {
            ask(held, move |network| {
                network.disconnect(index);
                Ok(())
            })
            .await?;
        }
        for window in windows {
            machine.detach(window).await?;
        }
        Ok(())
    }

    /// Gives the machine an interface that it does not have, and follows what its tap must know.
    async fn welcome(
        &mut self,
        held: &mut Option<Network>,
        interface: &Interface,
        machine: &Machine,
    ) -> Result<(), Error> {
        let link = interface.link.clone();
        let index = link.index;
        if self.windows.contains_key(&index) {
            return ask(held, move |network| network.set_mtu(&link)).await;
        }
        let queues = self.queues;
        let ports = ask(held, move |network| network.connect(&link, queues)).await?;
        match attach(machine, interface, ports).await {
            Ok(window) => {
                self.windows.insert(index, window);
                Ok(())
            }
            Err(error) => {
                let parted = ask(held, move |network| {
                    network.disconnect(index);
                    Ok(())
                });
                parted.await.and(Err(error))
            }
        }
    }
}

/// Does something blocking with what is held.
async fn ask<T: Send + 'static>(
    held: &mut Option<Network>,
    work: impl FnOnce(&mut Network) -> Result<T, network::Error> + Send + 'static,
) -> Result<T, Error> {
    let Some(network) = held.take() else {
        return Err(Error::Failed("the pod's network namespace is not held any more".into()));
    };
    let (network, done) = with(network, work).await?;
    *held = Some(network);
    done
}
