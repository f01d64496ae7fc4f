//! From a machine that was launched to a guest that serves: configured, and joined to its network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_api::sandbox::ConfigureRequest;
use api::Error;
use host::cgroup::Cgroup;
use host::mounts::Share;
use host::store::StateDir;
use machine::guest::Guest;
use machine::{Boot, Live, Machine};
use vmm_api::MachineConfig;

use super::super::{Booted, last_word};
use crate::blocking::blocking;
use crate::network::{self, Attached, Joined, Pending};

/// Kernel parameters by name.
type Sysctls = BTreeMap<String, String>;

/// What there is to do with a machine until it serves.
pub(in crate::sandbox) struct ToDo<'a> {
    /// What it boots from, if it does not run yet.
    pub(in crate::sandbox) boot: Option<Boot>,
    /// What the pod is given of it.
    pub(in crate::sandbox) size: MachineConfig,
    /// How long the guest may take until its agent serves.
    pub(in crate::sandbox) limit: Duration,
    pub(in crate::sandbox) state: &'a StateDir,
    /// Kernel parameters that the pod wants.
    pub(in crate::sandbox) sysctls: BTreeMap<String, String>,
    pub(in crate::sandbox) configuration: ConfigureRequest,
}

/// Brings a machine to where its guest serves. What fails when the machine ends is told by the
/// machine's end; it is in `cgroup`.
pub(in crate::sandbox) async fn reach(
    machine: Arc<Machine>,
    share: Arc<Share>,
    to_do: ToDo<'_>,
    network: &mut Pending,
    cgroup: Option<&Cgroup>,
) -> Result<Booted, Error> {
    let error = match settle(&machine, share, to_do, network).await {
        Ok(booted) => return Ok(booted),
        Err(error) => error,
    };
    match last_word::last_word(&machine, &error).await {
        Some(end) => Err(Error::machine_over(&last_word::reason(&end, None, cgroup))),
        None => Err(error),
    }
}

async fn settle(
    machine: &Arc<Machine>,
    share: Arc<Share>,
    to_do: ToDo<'_>,
    network: &mut Pending,
) -> Result<Booted, Error> {
    let ToDo { boot, size, limit, state, sysctls, configuration } = to_do;
    if let Some(boot) = boot {
        machine.boot(boot).await?;
        seal(&share).await?;
    }
    let ready = ready(machine, state, limit);
    let ((), network) = tokio::try_join!(ready, network.attach(machine))?;
    let (own, sysctls) = own(network.is_some(), sysctls);
    let containers_limit = configuration.memory_limit_bytes;
    let guest = configure(machine, state, configuration, sysctls).await?;
    let live = Live { machine: Arc::clone(machine), guest, share, writes: Arc::default() };
    let network = join(network, &live, own, state).await?;
    Ok(Booted { live, volumes: Arc::default(), network, size, containers_limit })
}

/// Why a clone does not serve.
#[derive(Debug)]
pub(super) enum Setback {
    /// Its template is no good, for this reason. A machine that boots may do better.
    Template(String),
    /// The pod can't be had, however its machine starts.
    Pod(Error),
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        Self::Pod(error)
    }
}

/// Brings a clone to where its guest serves, which it must do within `limit`. It gets its network
/// only when it has shown that it lives: taps can't be taken from it again.
pub(super) async fn settle_clone(
    machine: &Arc<Machine>,
    share: Arc<Share>,
    to_do: ToDo<'_>,
    network: &mut Pending,
    limit: Duration,
) -> Result<Booted, Setback> {
    let ToDo { boot, size, state, sysctls, configuration, .. } = to_do;
    let refused = |error: Error| Setback::Template(error.to_string());
    if let Some(boot) = boot {
        machine.boot(boot).await.map_err(refused)?;
        seal(&share).await?;
    }
    let (own, sysctls) = own(network.made().await?, sysctls);
    let containers_limit = configuration.memory_limit_bytes;
    let lives = async {
        ready(machine, state, limit).await?;
        configure(machine, state, configuration, sysctls).await
    };
    let spent = machine.patience().limit(limit, lives).await;
    let words = spent.in_words();
    let guest = match spent.outcome {
        Some(Ok(guest)) => guest,
        Some(Err(error)) => return Err(judge(machine, error).await),
        None => {
            let text = format!("its guest has not been configured within {words}");
            return Err(Setback::Template(text));
        }
    };
    let live = Live { machine: Arc::clone(machine), guest, share, writes: Arc::default() };
    let network = network.attach(machine).await?;
    let network = join(network, &live, own, state).await?;
    Ok(Booted { live, volumes: Arc::default(), network, size, containers_limit })
}

/// Whose fault it is that a clone's guest was not configured. What its agent answered, it would
/// answer in a machine that has booted.
async fn judge(machine: &Machine, error: Error) -> Setback {
    match error {
        Error::Unavailable(_) | Error::Disconnected(_) | Error::MachineEnded(_) => {
            let end = last_word::last_word(machine, &error).await;
            Setback::Template(end.map_or_else(|| error.to_string(), |end| end.reason))
        }
        answered => Setback::Pod(answered),
    }
}

/// Forgets the host's mounts, now that the VMM is in its jail.
async fn seal(share: &Arc<Share>) -> Result<(), Error> {
    let (share, doing) = (Arc::clone(share), "leaving the host's mounts");
    let seal = move || share.seal().map_err(|error| Error::failed(doing, &error));
    blocking(doing, seal).await
}

async fn ready(machine: &Machine, state: &StateDir, limit: Duration) -> Result<(), Error> {
    let took = machine.ready(limit).await?;
    state.step(&format!("ready {}", machine.boot_us().unwrap_or_default()));
    log::info!("machine {} ready after {took} us", machine.pid());
    if let Err(error) = std::fs::write(state.ready(), format!("{took}\n")) {
        log::warn!("writing {}: {error}", state.ready().display());
    }
    Ok(())
}

/// Parameters of interfaces, which are there only after they are joined, and all others.
fn own(networked: bool, mut sysctls: Sysctls) -> (network::Own, Sysctls) {
    match networked {
        true => (network::Own::take(&mut sysctls), sysctls),
        false => (network::Own::default(), sysctls),
    }
}

async fn configure(
    machine: &Machine,
    state: &StateDir,
    mut configuration: ConfigureRequest,
    sysctls: Sysctls,
) -> Result<Guest, Error> {
    let guest = Guest::connect(&state.vsock(), machine.patience().clone()).await?;
    configuration.sysctls.extend(sysctls);
    guest.configure(&configuration).await?;
    state.step("configured");
    Ok(guest)
}

async fn join(
    network: Option<Attached>,
    live: &Live,
    own: network::Own,
    state: &StateDir,
) -> Result<Joined, Error> {
    let Some(network) = network else { return Ok(Joined::default()) };
    let joined = network.connect(live, own).await?;
    state.step("network");
    Ok(joined)
}
