//! The pods' network: namespaces, and what is made in them: by CNI's plugins where they have a
//! configuration, else by the node's own bridge. A pod keeps the network that it was made with,
//! whatever comes later: its row says which.

mod own;
mod ports;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bridge::Lease;
use cni::{Attachment, Capabilities, NodeNetwork, Pod, PortMapping, Readiness};
use protocol::cri::PodSandboxConfig;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, blocking};
use crate::row;
use crate::settings::{Bridge, Settings};
use own::OwnBridge;

/// The interface by which a pod is reached, everywhere.
const INTERFACE: &str = "eth0";

/// Label that a kubelet gives to each of its pods.
const OF_KUBELET: &str = "io.kubernetes.pod.uid";

/// The network; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    cni: Arc<NodeNetwork>,
    own: OwnBridge,
    /// Whose pods go on the node's own bridge.
    bridge: Bridge,
}

/// A pod's place in a network, as its row keeps it: all that is needed to take it out again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// In that of a configuration of CNI.
    Cni(Box<Attachment>),
    /// On the node's own bridge.
    Bridge(Lease),
}

/// A pod that is in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    /// How it is taken out again.
    pub(crate) attachment: Vec<u8>,
    /// Its addresses.
    pub(crate) ips: Vec<IpAddr>,
}

impl Network {
    /// The network of a node with these settings, whose configuration of CNI is followed from now
    /// on. `attachments` are those of all pods on record.
    pub(crate) fn new<'a>(
        cni: NodeNetwork,
        settings: &Settings,
        attachments: impl Iterator<Item = &'a [u8]>,
    ) -> Self {
        let cni = Arc::new(cni);
        let followed = Arc::clone(&cni);
        tokio::spawn(async move { followed.follow().await });
        let leases = attachments.filter_map(|bytes| match read(bytes) {
            Ok(Place::Bridge(lease)) => Some(lease),
            _ => None,
        });
        let own = OwnBridge::new(&settings.bridge_name, settings.wanted(), leases);
        Self { cni, own, bridge: settings.bridge }
    }

    /// Whether pods of a kubelet can be attached.
    pub(crate) async fn readiness(&self) -> Readiness {
        let mut readiness = self.cni.readiness().await;
        match self.bridge {
            Bridge::Always if self.cni.is_empty() => match self.own.open().await {
                Ok(()) => Readiness { is_ready: true, reason: "", message: String::new() },
                Err(fault) => Readiness { message: fault.to_string(), ..readiness },
            },
            Bridge::Auto if self.cni.is_empty() => {
                readiness.message.push_str(": a kubelet's pods wait for one");
                readiness
            }
            _ => readiness,
        }
    }
    /// Makes a pod's namespace.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the path.
    pub(crate) async fn make_namespace(&self, path: &str) -> Result<(), Fault> {
        let at = path.to_owned();
        let made =
            blocking("making a network namespace", move || network::pin(Path::new(&at)).map(drop))
                .await?;
        made.map_err(|error| Fault::Internal(format!("making network namespace {path}: {error}")))
    }

    /// Removes a pod's namespace, if it is there.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the path.
    pub(crate) async fn remove_namespace(&self, path: &str) -> Result<(), Fault> {
        let at = path.to_owned();
        let removed =
            blocking("removing a network namespace", move || network::unpin(Path::new(&at)))
                .await?;
        removed
            .map_err(|error| Fault::Internal(format!("removing network namespace {path}: {error}")))
    }

    /// What is about to be made for a pod, to be on record before.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the node has no network for it, [`Fault::InvalidArgument`] and
    /// [`Fault::FailedPrecondition`] for ports that can't be published.
    pub(crate) async fn plan(&self, pod: &row::Pod) -> Result<Vec<u8>, Fault> {
        let config = pod.config.clone().unwrap_or_default();
        let ports = ports::ports(&config)?;
        let place = match self.cni.conf() {
            Ok(conf) => {
                let planned = Attachment::new(&conf, &asked(pod, &config, &ports));
                Place::Cni(Box::new(
                    planned.map_err(|error| Fault::InvalidArgument(error.whole()))?,
                ))
            }
            Err(_) if self.cni.is_empty() && is_own(self.bridge, &config) => {
                let leased = self.own.lease(&pod.id, Path::new(&pod.netns), ports);
                Place::Bridge(leased.await?)
            }
            Err(error) => return Err(Fault::Unavailable(error.whole())),
        };
        stored(&place)
    }

    /// Takes a pod into the network as it was planned. What half of it did is undone when it fails.
    ///
    /// # Errors
    /// [`Fault::Internal`] with what the plugins or the kernel said.
    pub(crate) async fn attach(&self, planned: &[u8]) -> Result<Attached, Fault> {
        let mut attachment = match read(planned)? {
            Place::Cni(attachment) => attachment,
            Place::Bridge(lease) => {
                let ips = lease.addresses();
                self.own.attach(lease).await?;
                return Ok(Attached { attachment: planned.to_owned(), ips });
            }
        };
        let attached = self.cni.plugins().attach(&mut attachment).await;
        attached.map_err(|error| {
            Fault::Internal(format!("setting up the network of the pod: {}", error.whole()))
        })?;
        let ips = attachment.addresses();
        if ips.is_empty() {
            let name = attachment.conf().name();
            return Err(Fault::Internal(format!("network {name:?} gave the pod no address")));
        }
        Ok(Attached { attachment: stored(&Place::Cni(attachment))?, ips })
    }

    /// Takes a pod out of the network that it was made with. It can be done again.
    ///
    /// # Errors
    /// [`Fault::Internal`] with what the plugins or the kernel said.
    pub(crate) async fn detach(&self, attachment: &[u8]) -> Result<(), Fault> {
        let attachment = match read(attachment)? {
            Place::Cni(attachment) => attachment,
            Place::Bridge(lease) => return self.own.detach(lease).await,
        };
        let detached = self.cni.plugins().detach(&attachment).await;
        detached.map_err(|error| {
            Fault::Internal(format!("taking down the network of the pod: {}", error.whole()))
        })
    }

    /// Frees what others than these pods have left: the plugins are told of them, and the bridge
    /// knows its leases.
    pub(crate) async fn collect(&self, pods: &[Vec<u8>]) {
        if let Err(fault) = self.own.collect(self.bridge != Bridge::Never).await {
            log::warn!("network: collecting what is left of pods: {fault}");
        }
        let Ok(conf) = self.cni.conf() else { return };
        let attached: Vec<_> = pods
            .iter()
            .filter_map(|bytes| match read(bytes) {
                Ok(Place::Cni(attachment)) => Some(*attachment),
                _ => None,
            })
            .collect();
        for error in self.cni.plugins().collect(&conf, &attached).await.err().unwrap_or_default() {
            log::warn!("network: collecting what is left of pods: {}", error.whole());
        }
    }
}

/// Whether a pod goes on the node's own bridge where CNI has no configuration. A kubelet's would
/// stay there, out of reach of other nodes, when its network comes a moment later.
fn is_own(bridge: Bridge, config: &PodSandboxConfig) -> bool {
    match bridge {
        Bridge::Always => true,
        Bridge::Auto => !config.labels.contains_key(OF_KUBELET),
        Bridge::Never => false,
    }
}

/// What CNI's plugins are asked for.
fn asked(pod: &row::Pod, config: &PodSandboxConfig, ports: &[PortMapping]) -> Pod {
    let metadata = pod.metadata();
    let annotations = config.annotations.clone().into_iter().collect();
    Pod {
        id: pod.id.clone(),
        netns: (&pod.netns).into(),
        interface: INTERFACE.to_owned(),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        capabilities: Capabilities::default().port_mappings(ports).annotations(&annotations),
    }
}

fn read(bytes: &[u8]) -> Result<Place, Fault> {
    serde_json::from_slice(bytes)
        .map_err(|error| Fault::Internal(format!("the network on record makes no sense: {error}")))
}

fn stored(place: &Place) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(place)
        .map_err(|error| Fault::Internal(format!("keeping the network: {error}")))
}

#[cfg(test)]
mod tests;
