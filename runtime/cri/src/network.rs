//! The pods' network: namespaces, and what CNI's plugins make in them.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cni::{Attachment, Capabilities, NodeNetwork, Pod, PortMapping, Protocol, Readiness};
use protocol::cri::PodSandboxConfig;

use crate::fault::Fault;
use crate::row;

/// The interface by which a pod is reached, everywhere.
const INTERFACE: &str = "eth0";

/// The network; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    cni: Arc<NodeNetwork>,
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
    /// A network by CNI, whose configuration is followed from now on.
    pub(crate) fn new(cni: NodeNetwork) -> Self {
        let cni = Arc::new(cni);
        let followed = Arc::clone(&cni);
        tokio::spawn(async move { followed.follow().await });
        Self { cni }
    }

    /// Whether pods can be attached.
    pub(crate) async fn readiness(&self) -> Readiness {
        self.cni.readiness().await
    }

    /// Makes a pod's namespace.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the path.
    pub(crate) async fn make_namespace(&self, path: &str) -> Result<(), Fault> {
        let at = path.to_owned();
        let made = blocking(move || network::pin(Path::new(&at)).map(drop)).await?;
        made.map_err(|error| Fault::Internal(format!("making network namespace {path}: {error}")))
    }

    /// Removes a pod's namespace, if it is there.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the path.
    pub(crate) async fn remove_namespace(&self, path: &str) -> Result<(), Fault> {
        let at = path.to_owned();
        let removed = blocking(move || network::unpin(Path::new(&at))).await?;
        removed
            .map_err(|error| Fault::Internal(format!("removing network namespace {path}: {error}")))
    }

    /// What is about to be made for a pod, to be on record before.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the node has no network.
    pub(crate) fn plan(&self, pod: &row::Pod) -> Result<Vec<u8>, Fault> {
        let conf = self.cni.conf().map_err(|error| Fault::Unavailable(error.whole()))?;
        let config = pod.config.clone().unwrap_or_default();
        let metadata = pod.metadata();
        let asked = Pod {
            id: pod.id.clone(),
            netns: (&pod.netns).into(),
            interface: INTERFACE.to_owned(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            capabilities: capabilities(&config),
        };
        let planned = Attachment::new(&conf, &asked);
        stored(&planned.map_err(|error| Fault::InvalidArgument(error.whole()))?)
    }

    /// Takes a pod into the network as it was planned. What half of it did is undone when it fails.
    ///
    /// # Errors
    /// [`Fault::Internal`] with what the plugins said.
    pub(crate) async fn attach(&self, planned: &[u8]) -> Result<Attached, Fault> {
        let mut attachment = read(planned)?;
        let attached = self.cni.plugins().attach(&mut attachment).await;
        attached.map_err(|error| {
            Fault::Internal(format!("setting up the network of the pod: {}", error.whole()))
        })?;
        let ips = attachment.addresses();
        if ips.is_empty() {
            let name = attachment.conf().name();
            return Err(Fault::Internal(format!("network {name:?} gave the pod no address")));
        }
        Ok(Attached { attachment: stored(&attachment)?, ips })
    }

    /// Takes a pod out of the network. It can be done again.
    ///
    /// # Errors
    /// [`Fault::Internal`] with what the plugins said.
    pub(crate) async fn detach(&self, attachment: &[u8]) -> Result<(), Fault> {
        let detached = self.cni.plugins().detach(&read(attachment)?).await;
        detached.map_err(|error| {
            Fault::Internal(format!("taking down the network of the pod: {}", error.whole()))
        })
    }

    /// Tells the plugins which pods there are, so that they free what others have left.
    pub(crate) async fn collect(&self, pods: &[Vec<u8>]) {
        let Ok(conf) = self.cni.conf() else { return };
        let attached: Vec<_> = pods.iter().filter_map(|bytes| read(bytes).ok()).collect();
        for error in self.cni.plugins().collect(&conf, &attached).await.err().unwrap_or_default() {
            log::warn!("network: collecting what is left of pods: {}", error.whole());
        }
    }
}

fn read(bytes: &[u8]) -> Result<Attachment, Fault> {
    serde_json::from_slice(bytes)
        .map_err(|error| Fault::Internal(format!("the network on record makes no sense: {error}")))
}

fn stored(attachment: &Attachment) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(attachment)
        .map_err(|error| Fault::Internal(format!("keeping the network: {error}")))
}

/// What plugins that want to know it are told of the pod (pure).
fn capabilities(config: &PodSandboxConfig) -> Capabilities {
    let mut ports = Vec::new();
    for mapping in &config.port_mappings {
        let (host, container) = (mapping.host_port, mapping.container_port);
        let (Ok(host), Ok(container)) = (u16::try_from(host), u16::try_from(container)) else {
            continue;
        };
        if host == 0 {
            continue;
        }
        let protocol = match mapping.protocol() {
            protocol::cri::Protocol::Tcp => Protocol::Tcp,
            protocol::cri::Protocol::Udp => Protocol::Udp,
            protocol::cri::Protocol::Sctp => Protocol::Sctp,
        };
        let host_ip = mapping.host_ip.parse().ok();
        ports.push(PortMapping { host_port: host, container_port: container, protocol, host_ip });
    }
    let annotations = config.annotations.clone().into_iter().collect();
    Capabilities::default().port_mappings(&ports).annotations(&annotations)
}

/// Runs what blocks beside everything else.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::Internal(format!("a thread of cuddyd: {error}")))
}
