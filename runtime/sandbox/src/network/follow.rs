//! Following the network namespace: interfaces, addresses and routes that come, change and go while
//! the pod runs.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_api::network::ApplyRequest;
use api::Error;
use machine::Live;
use machine::Machine;
use network::{Interface, Network, Plan, Watch};
use tokio::time::{Instant, sleep_until};
use vmm_api::Window;

use super::request::{Own, describe};
use super::{attach, wrong};

/// After a failure the namespace is looked at again although nothing in it changes; each further
/// failure doubles the time.
const AGAIN: Duration = Duration::from_secs(1);

/// The longest time between two looks after failures.
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// What the guest has, and what it has been told.
#[derive(Debug)]
pub(super) struct Known {
    /// What the namespace had at the last look.
    pub(super) plan: Plan,
    /// What the guest has taken.
    pub(super) told: ApplyRequest,
    pub(super) windows: BTreeMap<u32, Window>,
    pub(super) queues: usize,
    pub(super) own: Own,
}

/// When to look again although nothing changes.
#[derive(Debug, Default)]
struct Retry(Option<(Instant, Duration)>);

impl Retry {
    async fn due(&self) {
        match self.0 {
            Some((at, _)) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn after_failure(&mut self) {
        let pause = self.0.map_or(AGAIN, |(_, pause)| AGAIN_AT_MOST.min(pause * 2));
        self.0 = Some((Instant::now() + pause, pause));
    }
}

/// What a look at the namespace led to.
enum Look {
    /// It is as it was.
    Same,
    /// The guest has all of it.
    Followed,
    /// The guest lacks something.
    Failed,
}

/// Follows until the machine's end, and undoes what was done to the namespace then.
pub(super) async fn run(network: Network, watch: Watch, known: Known, live: Live) {
    let mut network = Some(network);
    tokio::select! {
        () = follow(&mut network, watch, known, &live) => {}
        _ = live.machine.ended() => {}
    }
    // Its drop talks to the kernel.
    let _undone = tokio::task::spawn_blocking(move || drop(network)).await;
}

async fn follow(network: &mut Option<Network>, mut watch: Watch, mut known: Known, live: &Live) {
    let mut retry = Retry::default();
    while network.is_some() {
        let anyway = tokio::select! {
            news = watch.changed() => {
                if let Err(error) = news {
                    log::warn!("changes of the pod's network are not followed any more: {error}");
                    return std::future::pending().await;
                }
                false
            }
            () = retry.due() => true,
        };
        match known.update(network, live, anyway).await {
            Ok(Look::Same) => {}
            Ok(Look::Followed) => retry = Retry::default(),
            Ok(Look::Failed) => retry.after_failure(),
            Err(error) => {
                log::warn!("following a change of the pod's network: {error}");
                retry.after_failure();
            }
        }
    }
}

/// Says what the guest does not get, where it is news.
pub(super) fn tell_left_out(before: &Plan, now: &Plan) {
    for (name, reason) in now.left_out.iter().filter(|one| !before.left_out.contains(one)) {
        log::info!("the guest does not get {name}: {reason}");
    }
}

impl Known {
    async fn update(
        &mut self,
        held: &mut Option<Network>,
        live: &Live,
        anyway: bool,
    ) -> Result<Look, Error> {
        let plan = ask(held, Network::scan).await?;
        if plan == self.plan && !anyway {
            return Ok(Look::Same);
        }
        tell_left_out(&self.plan, &plan);
        self.plan = plan.clone();
        let mut look = Look::Followed;
        for interface in &plan.interfaces {
            if let Err(error) = self.welcome(held, interface, &live.machine).await {
                log::warn!("interface {} of the pod's network: {error}", interface.link.name);
                look = Look::Failed;
            }
        }
        let stays = |index: &u32| plan.interfaces.iter().any(|own| own.link.index == *index);
        let mut staying = self.windows.clone();
        staying.retain(|index, _| stays(index));
        let wanted = describe(&plan, &staying, &self.own);
        if wanted != self.told {
            // A refusal leaves the guest with a part of it.
            self.told = ApplyRequest::default();
            live.guest.apply_network(&wanted).await?;
            self.told = wanted;
        }
        let gone: Vec<(u32, Window)> = self.windows.clone().into_iter().collect();
        for (index, window) in gone.into_iter().filter(|(index, _)| !stays(index)) {
            part(held, index).await?;
            live.machine.detach(window).await?;
            self.windows.remove(&index);
        }
        Ok(look)
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
            Err(error) => part(held, index).await.and(Err(error)),
        }
    }
}

/// Parts an interface from its tap.
async fn part(held: &mut Option<Network>, index: u32) -> Result<(), Error> {
    ask(held, move |network| {
        network.disconnect(index);
        Ok(())
    })
    .await
}

/// Does something blocking with what is held, which is lost with a panic only. There is no limit:
/// whoever gave up would drop the network later, and with it all that the pod's packets need.
async fn ask<T: Send + 'static>(
    held: &mut Option<Network>,
    work: impl FnOnce(&mut Network) -> Result<T, network::Error> + Send + 'static,
) -> Result<T, Error> {
    let Some(network) = held.take() else {
        return Err(Error::Failed("the pod's network namespace is not held any more".into()));
    };
    let asked = tokio::task::spawn_blocking(move || {
        let mut network = network;
        let done = work(&mut network).map_err(wrong);
        (network, done)
    });
    let (network, done) =
        asked.await.map_err(|error| Error::failed("working on the pod's network", &error))?;
    *held = Some(network);
    done
}
