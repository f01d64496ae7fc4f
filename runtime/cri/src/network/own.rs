//! The node's own bridge, for pods while CNI has no configuration. A pod's lease is in its row
//! before anything is made of it. The leases of all rows are here, too, so that nobody gets an
//! address or a port twice. The bridge is made when the first pod needs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bridge::{Error, Lease, NodeBridge, Wanted};
use cni::PortMapping;
use tokio::sync::Mutex;

use crate::fault::{Fault, blocking};

/// The bridge; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct OwnBridge {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    name: String,
    wanted: Wanted,
    bridge: Option<NodeBridge>,
    /// By the pods' ids.
    leases: BTreeMap<String, Lease>,
}

impl OwnBridge {
    /// The bridge of this name, with the leases that are on record.
    pub(super) fn new(name: &str, wanted: Wanted, leases: impl Iterator<Item = Lease>) -> Self {
        let leases = leases.map(|lease| (lease.id().to_owned(), lease)).collect();
        let state = State { name: name.to_owned(), wanted, bridge: None, leases };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Leases a pod's place. Nothing of it is made yet.
    ///
    /// # Errors
    /// [`Fault::FailedPrecondition`] for a port that is taken, [`Fault::InvalidArgument`] for one
    /// that can't be published, [`Fault::Unavailable`] when all addresses are taken.
    pub(super) async fn lease(
        &self,
        id: &str,
        netns: &Path,
        ports: Vec<PortMapping>,
    ) -> Result<Lease, Fault> {
        let (id, netns) = (id.to_owned(), netns.to_owned());
        self.change(move |state| {
            let known = state.all();
            let lease =
                state.on(&known, |bridge, known| bridge.lease(known, &id, &netns, &ports))?;
            state.leases.insert(id, lease.clone());
            Ok(lease)
        })
        .await
    }

    /// Attaches a pod by its lease. It can be done again.
    ///
    /// # Errors
    /// [`Fault::Internal`] with what the kernel said; nothing but the lease is left then.
    pub(super) async fn attach(&self, lease: Lease) -> Result<(), Fault> {
        self.change(move |state| {
            let known = state.all();
            state.on(&known, |bridge, known| bridge.attach(&lease, known))
        })
        .await
    }

    /// Detaches a pod, whose lease ends. It can be done again.
    ///
    /// # Errors
    /// [`Fault::Internal`] with what the kernel said; the lease goes on then.
    pub(super) async fn detach(&self, lease: Lease) -> Result<(), Fault> {
        self.change(move |state| {
            let mut known = state.all();
            known.retain(|other| other.id() != lease.id());
            state.on(&known, |bridge, known| bridge.detach(&lease, known))?;
            state.leases.remove(lease.id());
            Ok(())
        })
        .await
    }

    /// Makes the bridge if it is not there.
    ///
    /// # Errors
    /// Why pods can't be attached to it.
    pub(super) async fn open(&self) -> Result<(), Fault> {
        self.change(|state| {
            let known = state.all();
            state.on(&known, |_, _| Ok(()))
        })
        .await
    }

    /// Removes what no lease knows. Where pods go on the bridge no more, it goes with the last one.
    ///
    /// # Errors
    /// [`Fault::Internal`] with what the kernel said.
    pub(super) async fn collect(&self, is_used: bool) -> Result<(), Fault> {
        self.change(move |state| {
            let known = state.all();
            if known.is_empty() && !NodeBridge::exists(&state.name)? {
                return Ok(());
            }
            state.on(&known, |bridge, known| bridge.collect(known).map(drop))?;
            match state.bridge.take_if(|_| known.is_empty() && !is_used) {
                Some(bridge) => bridge.remove(),
                None => Ok(()),
            }
        })
        .await
    }

    /// One change after the other, each to its end: whoever asked for it may go.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        blocking("the bridge", move || work(&mut state)).await?.map_err(fault)
    }
}

impl State {
    fn all(&self) -> Vec<Lease> {
        self.leases.values().cloned().collect()
    }

    /// Works on the bridge beside the leases that are `known`. After the kernel's refusal it is
    /// opened anew: somebody may have removed it.
    fn on<T>(
        &mut self,
        known: &[Lease],
        work: impl FnOnce(&NodeBridge, &[Lease]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let bridge = match self.bridge.take() {
            Some(bridge) => bridge,
            None => NodeBridge::open(&self.name, &self.wanted, known)?,
        };
        let done = work(&bridge, known);
        if !matches!(done, Err(Error::Io { .. })) {
            self.bridge = Some(bridge);
        }
        done
    }
}

fn fault(error: Error) -> Fault {
    let mut text = format!("the node's own network: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    match error {
        Error::PortTaken { .. } => Fault::FailedPrecondition(text),
        Error::Port { .. } => Fault::InvalidArgument(text),
        Error::NoAddress(_) | Error::NoSubnet => Fault::Unavailable(text),
        Error::Io { .. } | Error::Netns(_) => Fault::Internal(text),
    }
}
