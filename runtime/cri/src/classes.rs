//! What a RuntimeClass can name: the shim by which a pod runs. The class "" or `cuddy` is ours. Its
//! shim makes each pod a machine by containerd's Sandbox service. Others are the operator's.

mod options;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use glob::Pattern;
use prost::Message;
use protocol::cri::{DnsConfig, PodSandboxConfig};
use shim_client::{Any, Daemon, Runtime, SandboxRequest, Shim};

use crate::fault::Fault;
use crate::ids;
use crate::row;
use crate::settings::{OWN, Settings, ShimSettings};
use crate::spec::{self, CgroupDriver, HandlerConfig};

/// The type of our own shim.
const RUNTIME: &str = "io.containerd.cuddy.v2";

/// The type of a pod's configuration.
const CONFIG: &str = "runtime.v1.PodSandboxConfig";

/// A class; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// What it can do.
    pub(crate) handler: Arc<HandlerConfig>,
    /// Its shim.
    pub(crate) runtime: Runtime,
    /// What its shim is told each time; none for ours.
    pub(crate) options: Option<Any>,
    /// Who makes its cgroups, where that was said for it.
    pub(crate) cgroup_driver: Option<CgroupDriver>,
}

/// All classes of the node.
#[derive(Debug, Clone)]
pub(crate) struct Classes {
    all: BTreeMap<String, Class>,
    /// The class of pods that name none and need the node itself; empty: they are refused.
    host_pods: String,
}

impl Classes {
    /// Finds the shims of all classes in `path`, which has the form of `PATH`. `daemons` is what ours
    /// and what foreign ones are told of this one; `driver` makes the node's cgroups.
    ///
    /// # Errors
    /// [`Fault::FailedPrecondition`] with the class whose shim is not there.
    pub(crate) fn find(
        path: &OsStr,
        daemons: &[Arc<Daemon>; 2],
        settings: &Settings,
        driver: CgroupDriver,
    ) -> Result<Self, Fault> {
        let [own, others] = daemons;
        let find = |name: &str, kind: &str, daemon: &Arc<Daemon>| {
            let runtime = Runtime::find(kind, path, Arc::clone(daemon));
            runtime.map_err(|error| {
                let text = format!("finding the shim of handler {name:?}: {error}");
                Fault::FailedPrecondition(text)
            })
        };
        let own = Class {
            name: OWN.into(),
            handler: Arc::new(HandlerConfig::new(spec::Runtime::Machine)),
            runtime: find(OWN, RUNTIME, own)?,
            options: None,
            cgroup_driver: None,
        };
        let mut all = BTreeMap::from([(OWN.to_owned(), own)]);
        for (name, handler) in &settings.handlers {
            let runtime = find(name, &handler.runtime_type, others)?;
            all.insert(name.clone(), foreign(name, handler, runtime, driver));
        }
        Ok(Self { all, host_pods: settings.host_pods.clone() })
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

    /// The class for a pod that asks for the handler `name`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn choose(&self, name: &str, pod: &PodSandboxConfig) -> Result<&Class, Fault> {
        let elsewhere = name.is_empty() && !self.host_pods.is_empty() && spec::needs_node(pod);
        self.get(if elsewhere { &self.host_pods } else { name })
    }

    /// The class of a pod on record.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn of(&self, row: &row::Pod) -> Result<&Class, Fault> {
        // Rows of earlier releases have no class.
        self.get(if row.class.is_empty() { &row.handler } else { &row.class })
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Class> {
        self.all.values()
    }
}

/// A class that the operator made.
fn foreign(name: &str, handler: &ShimSettings, runtime: Runtime, driver: CgroupDriver) -> Class {
    let patterns = |texts: &[String]| -> Vec<Pattern> {
        texts.iter().filter_map(|text| Pattern::new(text).ok()).collect()
    };
    let config = HandlerConfig {
        // The owners of its layers' files are not mapped yet.
        user_namespaces: false,
        pod_annotations: patterns(&handler.pod_annotations),
        container_annotations: patterns(&handler.container_annotations),
        ..HandlerConfig::new(spec::Runtime::Runc)
    };
    let said = handler.options.systemd_cgroup.map(|systemd| match systemd {
        true => CgroupDriver::Systemd,
        false => CgroupDriver::Cgroupfs,
    });
    Class {
        name: name.into(),
        handler: Arc::new(config),
        runtime,
        options: Some(options::any(handler, said.unwrap_or(driver))),
        cgroup_driver: said,
    }
}

impl Class {
    /// Whether its pods are machines.
    pub(crate) fn is_own(&self) -> bool {
        self.handler.runtime == spec::Runtime::Machine
    }

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

    /// Ends what is left of the shim of a pod, or of one container of a foreign one, by force. It can be repeated.
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
mod tests;
