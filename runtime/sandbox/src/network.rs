//! The pod's network. This module joins the guest to the interfaces of the pod's network namespace,
//! and follows their changes. It carries connections from the namespace's loopback to the guest's.
//!
//! ```text
//!  begin (taps are made while the guest boots) ──► attach (devices into windows) ──► connect (the
//!  guest configures them) ──► a task follows changes until the machine's end
//! ```

mod follow;
mod forward;
mod request;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use api::Error;
use api::error::chain;
use host::journal::Entry;
use host::store::StateDir;
use machine::Live;
use machine::Machine;
use network::{Interface, Listeners, Netns, Network, Plan, Ports, Watch};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vmm_api::{DeviceConfig, FdSlot, NetConfig, Window};

pub(crate) use request::Own;

/// Most queue pairs of an interface: each costs buffers in the guest and a thread of the host's
/// kernel, and more than these are more than a pod's traffic fills.
const MAX_QUEUES: usize = 4;

/// Limit of packets that a device tells its driver, which must never lower it again: the
/// interface's own limit is set by the agent, and may be raised later.
const DEVICE_MTU: u16 = 65535;

fn wrong(error: network::Error) -> Error {
    match error {
        network::Error::Gone(_) | network::Error::Own(_) => Error::Invalid(chain(&error)),
        network::Error::Held { .. } | network::Error::Io { .. } => Error::Failed(chain(&error)),
    }
}

/// A network namespace whose interfaces have taps, before the machine has them.
#[derive(Debug)]
pub(crate) struct Prepared {
    network: Network,
    watch: Watch,
    listeners: Option<Listeners>,
    parameters: BTreeMap<String, String>,
    plan: Plan,
    ports: BTreeMap<u32, Ports>,
    queues: usize,
}

/// The same, being made.
#[derive(Debug)]
pub(crate) enum Pending {
    /// There is no namespace, or a machine has its interfaces.
    None,
    /// It is being made.
    Making(JoinHandle<Result<Option<Prepared>, Error>>),
    /// It waits for a machine.
    Made(Box<Prepared>),
}

impl Pending {
    /// Waits until nothing is made any more: only then what was made can be undone.
    pub(crate) async fn over(self) {
        if let Self::Making(work) = self
            && let Err(error) = work.await
        {
            log::warn!("preparing the pod's network: {error}");
        }
    }
}

/// Begins to prepare the network namespace at `path` for a machine with so many CPUs; without one
/// the guest has only its loopback.
pub(crate) fn begin(path: Option<&Path>, state: &StateDir, cpus: u32) -> Pending {
    let Some(path) = path.map(Path::to_owned) else { return Pending::None };
    let state = state.clone();
    let queues = usize::try_from(cpus).map_or(1, |cpus| cpus.clamp(1, MAX_QUEUES));
    Pending::Making(tokio::task::spawn_blocking(move || Prepared::make(&path, &state, queues)))
}

impl Prepared {
    fn make(path: &Path, state: &StateDir, queues: usize) -> Result<Option<Self>, Error> {
        let netns = match Netns::open(path) {
            Err(error @ network::Error::Own(_)) => {
                log::warn!("{error}: the guest has only its loopback");
                return Ok(None);
            }
            netns => netns.map_err(wrong)?,
        };
        let entry = Entry::Network { path: path.to_owned(), inode: netns.inode() };
        let noted = state.journal().and_then(|mut journal| journal.add(&entry));
        noted.map_err(|error| Error::failed("writing the journal", &error))?;
        let mut network = Network::open(netns).map_err(wrong)?;
        // Before the first look: what changes from now on is seen later.
        let watch = network.watch().map_err(wrong)?;
        let plan = network.scan().map_err(wrong)?;
        follow::tell_left_out(&Plan::default(), &plan);
        let mut ports = BTreeMap::new();
        for Interface { link, .. } in &plan.interfaces {
            ports.insert(link.index, network.connect(link, queues).map_err(wrong)?);
        }
        let parameters = network.parameters().map_err(wrong)?;
        let listeners = forward::listen(&network);
        Ok(Some(Self { network, watch, listeners, parameters, plan, ports, queues }))
    }
}

/// A network namespace whose interfaces are devices of the machine.
#[derive(Debug)]
pub(crate) struct Attached {
    network: Network,
    watch: Watch,
    listeners: Option<Listeners>,
    parameters: BTreeMap<String, String>,
    plan: Plan,
    windows: BTreeMap<u32, Window>,
    queues: usize,
}

impl Pending {
    /// Waits until the taps are made. Returns whether a machine is to have a network.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no namespace; otherwise what the host refused.
    pub(crate) async fn made(&mut self) -> Result<bool, Error> {
        if let Self::Making(work) = self {
            let made = work.await;
            *self = Self::None;
            let made = made.unwrap_or_else(|error| {
                Err(Error::failed("preparing the pod's network", &error))
            })?;
            if let Some(prepared) = made {
                *self = Self::Made(Box::new(prepared));
            }
        }
        Ok(matches!(self, Self::Made(_)))
    }

    /// Puts the interfaces into windows of the machine, whose guest may still be booting.
    ///
    /// # Errors
    /// As of [`Self::made`], and what the VMM refused.
    pub(crate) async fn attach(&mut self, machine: &Machine) -> Result<Option<Attached>, Error> {
        self.made().await?;
        let Self::Made(prepared) = std::mem::replace(self, Self::None) else { return Ok(None) };
        let Prepared { network, watch, listeners, parameters, plan, mut ports, queues } = *prepared;
        let mut windows = BTreeMap::new();
        for interface in &plan.interfaces {
            let index = interface.link.index;
            if let Some(ports) = ports.remove(&index) {
                windows.insert(index, attach(machine, interface, ports).await?);
            }
        }
        Ok(Some(Attached { network, watch, listeners, parameters, plan, windows, queues }))
    }
}

impl Attached {
    /// Lets the guest configure its interfaces and take over the namespace's parameters. It leaves
    /// out those that the pod's `own` name, and sets these after all the rest. From then on it
    /// follows changes and forwards connections, until the machine's end.
    ///
    /// # Errors
    /// What the guest answered, for instance that there is no parameter of a name.
    pub(crate) async fn connect(self, live: &Live, own: Own) -> Result<Joined, Error> {
        let Self { network, watch, listeners, parameters, plan, windows, queues } = self;
        let told = request::describe(&plan, &windows, &own);
        let mut wanted = told.clone();
        // Once: no event tells of changes, and containers may have set their own by then.
        wanted.parameters = own.others(parameters);
        wanted.sysctls = own.sysctls();
        live.guest.apply_network(&wanted).await?;
        if let Some(listeners) = listeners {
            tokio::spawn(forward::serve(listeners, live.clone()));
        }
        let known = follow::Known { plan, told, windows, queues, own };
        let (undone, joined) = watch::channel(());
        let live = live.clone();
        tokio::spawn(async move {
            follow::run(network, watch, known, live).await;
            drop(undone);
        });
        Ok(Joined(Some(joined)))
    }
}

/// That a guest is joined to a network namespace, or has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined(Option<watch::Receiver<()>>);

impl Joined {
    /// Waits until nothing of the machine is left in the namespace, which is soon after the
    /// machine's end.
    pub(crate) async fn undone(&mut self) {
        let Some(joined) = &mut self.0 else { return };
        // Nothing is ever sent: the error is that the sender is gone.
        while joined.changed().await.is_ok() {}
    }
}

/// Puts an interface into a window.
async fn attach(machine: &Machine, interface: &Interface, ports: Ports) -> Result<Window, Error> {
    let Ports { taps, vhost } = ports;
    let slots = |from: usize, count: usize| -> Result<Vec<FdSlot>, Error> {
        let all = (from..from + count).map(|slot| u8::try_from(slot).map(FdSlot));
        all.collect::<Result<_, _>>().map_err(|_| Error::Invalid("too many queues".into()))
    };
    let (queues, kernel) = (slots(0, taps.len())?, slots(taps.len(), vhost.len())?);
    let device = NetConfig::new(interface.mac, DEVICE_MTU, queues, kernel)
        .map_err(|error| Error::Invalid(format!("{}: {error}", interface.link.name)))?;
    let fds: Vec<OwnedFd> = taps.into_iter().chain(vhost).collect();
    machine.attach(DeviceConfig::Net(device), fds).await
}
