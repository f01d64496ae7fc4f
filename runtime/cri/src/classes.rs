//! What a RuntimeClass can name: the shim by which a pod runs. The class "" or `cuddy` is ours. Its
//! shim makes each pod a machine by containerd's Sandbox service.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use protocol::cri::DnsConfig;
use shim_client::{Any, Daemon, Runtime, SandboxRequest, Shim};

use crate::fault::Fault;
use crate::ids;
use crate::row;

/// The name of our own class.
pub(crate) const OWN: &str = "cuddy";

/// The type of our own shim.
const RUNTIME: &str = "io.containerd.cuddy.v2";

/// The type of a pod's configuration.
const CONFIG: &str = "runtime.v1.PodSandboxConfig";

/// A class; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its shim.
    runtime: Runtime,
}

/// All classes of the node.
#[derive(Debug, Clone)]
pub(crate) struct Classes {
    all: BTreeMap<String, Class>,
}

impl Classes {
    /// Finds the shims of all classes in `path`, which has the form of `PATH`.
    ///
    /// # Errors
    /// [`Fault::FailedPrecondition`] with the class whose shim is not there.
    pub(crate) fn find(path: &OsStr, daemon: &Arc<Daemon>) -> Result<Self, Fault> {
        let runtime = Runtime::find(RUNTIME, path, Arc::clone(daemon));
        let runtime = runtime.map_err(|error| {
            let text = format!("finding the shim of handler {OWN:?}: {error}");
            Fault::FailedPrecondition(text)
        })?;
        let own = Class { name: OWN.into(), runtime };
        Ok(Self { all: [(OWN.to_owned(), own)].into() })
    }

    /// The class of this name; an empty one is ours.
    ///
    /// # Errors
    /// [`Fault::InvalidArgument`] with the names that there are.
    pub(crate) fn get(&self, name: &str) -> Result<&Class, Fault> {
        let name = if name.is_empty() { OWN } else { name };
        self.all.get(name).ok_or_else(|| {
            let known = self.all.keys().map(|name| format!("{name:?}")).collect::<Vec<_>>();
            let (name, known) = (api::text::printable(name, 80), known.join(", "));
            Fault::InvalidArgument(format!("no runtime handler {name:?}: there are {known}"))
        })
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Class> {
        self.all.values()
    }
}

impl Class {
    /// Starts the pod's shim and creates the pod, which boots its machine. Its network need not be
    /// there yet.
    ///
    /// # Errors
    /// What the shim said.
    pub(crate) async fn begin(&self, bundle: &Path, pod: &row::Pod) -> Result<Shim, Fault> {
        match tokio::fs::create_dir(bundle).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Fault::Internal(format!("making {}: {error}", bundle.display())));
            }
            _ => {}
        }
        let shim = self.runtime.start(bundle, &ids::of_container(&pod.id)?, None).await?;
        let mut config = pod.config.clone().unwrap_or_default();
        config.dns_config = Some(dns(config.dns_config, bridge::host_dns));
        let annotations = config.annotations.clone().into_iter().collect();
        let options = Any { type_url: CONFIG.to_owned(), value: config.encode_to_vec() };
        let request = SandboxRequest {
            bundle: bundle.to_owned(),
            rootfs: Vec::new(),
            options: Some(options),
            network: pod.netns.clone().into(),
            annotations,
        };
        shim.sandbox(ids::of_sandbox(&pod.id)?).create(&request).await?;
        Ok(shim)
    }

    /// Ends what is left of a pod's shim by force. It can be repeated.
    ///
    /// # Errors
    /// What the runtime said.
    pub(crate) async fn clean_up(&self, bundle: &Path, id: &str) -> Result<(), Fault> {
        if !bundle.exists() {
            return Ok(());
        }
        let id = ids::of_container(id)?;
        self.runtime.delete(bundle, &id).await.map(drop).map_err(Fault::from)
    }
}

/// How a pod looks up names: as it was asked for, else as the node does. A server on the node's
/// loopback is none for a pod.
fn dns(asked: Option<DnsConfig>, of_node: impl FnOnce(&Path) -> cni::Dns) -> DnsConfig {
    asked.filter(|dns| *dns != DnsConfig::default()).unwrap_or_else(|| {
        let cni::Dns { nameservers, search, options, .. } = of_node(Path::new("/"));
        DnsConfig { servers: nameservers, searches: search, options }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_as_asked_for_or_as_the_node_does() {
        let node =
            |_: &Path| cni::Dns { nameservers: vec!["192.0.2.1".into()], ..Default::default() };
        let own = DnsConfig { options: vec!["ndots:5".into()], ..DnsConfig::default() };
        assert_eq!(dns(Some(own.clone()), node), own);
        for none in [None, Some(DnsConfig::default())] {
            assert_eq!(dns(none, node).servers, ["192.0.2.1"]);
        }
    }
}
