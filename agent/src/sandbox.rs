//! The guest as a whole: what containers and streams there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::admission::Admission;
use crate::cgroup;
use crate::container::{Container, Means, check_id};
use crate::error::{Error, Result};
use crate::oci::Spec;
use crate::pod_pids::PodPids;
use crate::pod_users::PodUsers;
use crate::process::Created;
use crate::reaper::Reaper;
use crate::stdio::Streams;

/// An id in use.
#[derive(Debug)]
enum Slot {
    /// The container is being made; `unwanted` once it shall be deleted.
    Making {
        unwanted: bool,
    },
    Deleting,
    Present(Arc<Container>),
}

/// Why a container that was asked for is not there.
const UNWANTED: Error = Error::State("the container was deleted while it was made");

/// Owner of everything that the services act on.
#[derive(Debug)]
pub(crate) struct Sandbox {
    admission: Arc<Admission>,
    streams: Arc<Streams>,
    reaper: Arc<Reaper>,
    containers: Mutex<HashMap<String, Slot>>,
    /// Tells that a container has been made or deleted, or could not be.
    settled: watch::Sender<()>,
    pod_pids: PodPids,
    pod_users: PodUsers,
}

impl Sandbox {
    /// An empty sandbox.
    pub(crate) fn new(reaper: Arc<Reaper>) -> Self {
        Self {
            admission: Arc::default(),
            streams: Arc::default(),
            reaper,
            containers: Mutex::default(),
            settled: watch::Sender::new(()),
            pod_pids: PodPids::default(),
            pod_users: PodUsers::default(),
        }
    }

    /// Whether the host may use it already.
    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Stream connections of the host.
    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// Reports exits.
    pub(crate) fn reaper(&self) -> &Reaper {
        &self.reaper
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container by its id.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        match self.containers().get(id) {
            Some(Slot::Present(container)) => Ok(Arc::clone(container)),
            _ => Err(Error::NoContainer(id.to_owned())),
        }
    }

    /// Makes a container; see [`Container::create`].
    ///
    /// # Errors
    /// The id is bad or in use, or the container cannot be made.
    pub(crate) async fn create(
        self: Arc<Self>,
        id: String,
        spec: Spec,
        streams: agent_api::types::Streams,
    ) -> Result<Created> {
        check_id(&id)?;
        match self.containers().entry(id.clone()) {
            Entry::Occupied(_) => return Err(Error::Exists(id)),
            Entry::Vacant(entry) => entry.insert(Slot::Making { unwanted: false }),
        };
        // Beside the call: ttrpc drops a call at its deadline, and nothing half made may stay.
        let task = tokio::spawn(async move {
            let made = self.make(&id, spec, streams).await;
            self.settle(&id, made).await
        });
        let done = task.await.map_err(std::io::Error::other);
        done.map_err(Error::io("make the container"))?
    }

    async fn make(
        &self,
        id: &str,
        mut spec: Spec,
        streams: agent_api::types::Streams,
    ) -> Result<(Arc<Container>, Created)> {
        self.resolve_namespaces(&mut spec).await?;
        let users = self.pod_users.resolve(&mut spec).await;
        let users = users.map_err(|error| Error::Invalid(error.to_string()))?;
        if self.is_unwanted(id) {
            return Err(UNWANTED);
        }
        let means = Means { reaper: &self.reaper, connections: &self.streams, users };
        Container::create(id, spec, streams, means).await
    }

    fn is_unwanted(&self, id: &str) -> bool {
        matches!(self.containers().get(id), Some(Slot::Making { unwanted: true }))
    }

    /// Ends the making of a container: it is there, or its id is free.
    async fn settle(&self, id: &str, made: Result<(Arc<Container>, Created)>) -> Result<Created> {
        let outcome = match made {
            Ok((container, _)) if self.is_unwanted(id) => {
                if let Err(left) = container.delete().await {
                    log::warn!("clean up container {id}: {left}");
                }
                Err(UNWANTED)
            }
            other => other,
        };
        let created = {
            let mut containers = self.containers();
            containers.remove(id);
            outcome.map(|(container, created)| {
                containers.insert(id.to_owned(), Slot::Present(container));
                created
            })
        };
        self.settled.send_replace(());
        created
    }

    /// Puts real paths in the place of those by which agent-api names shared namespaces.
    async fn resolve_namespaces(&self, spec: &mut Spec) -> Result<()> {
        for namespace in &mut spec.linux.namespaces {
            let Some(path) = namespace.path() else { continue };
            let real = if path == Path::new(agent_api::POD_PID_NAMESPACE) {
                self.pod_pids.path().await?
            } else if let Ok(named) = path.strip_prefix(agent_api::CONTAINER_NAMESPACES) {
                self.namespace_of_container(named)?
            } else {
                continue;
            };
            namespace.path = Some(real);
        }
        Ok(())
    }

    /// The path for `<container id>/<file below /proc/pid/ns>`.
    fn namespace_of_container(&self, named: &Path) -> Result<PathBuf> {
        let bad = || Error::Invalid(format!("namespace {named:?}: not of a container"));
        let mut parts = named.iter().map(|part| part.to_str());
        let (Some(Some(id)), Some(Some(file)), None) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let init = self.container(id)?.process("")?;
        let pid = init.pid().filter(|_| init.is_alive());
        let pid =
            pid.ok_or(Error::State("the container whose namespace is wanted does not run"))?;
        check_id(file)?;
        Ok(format!("/proc/{pid}/ns/{file}").into())
    }

    /// Deletes a container; see [`Container::delete`]. One that is being made is given up.
    ///
    /// # Errors
    /// There is none, or it runs.
    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        let container = self.claim(id).await?;
        let result = container.delete().await;
        {
            let mut containers = self.containers();
            containers.remove(id);
            if result.is_err() {
                containers.insert(id.to_owned(), Slot::Present(container));
            }
        }
        self.settled.send_replace(());
        result
    }

    /// Takes a container to delete it, once nobody else works on it.
    async fn claim(&self, id: &str) -> Result<Arc<Container>> {
        let mut settled = self.settled.subscribe();
        loop {
            if let Some(container) = self.try_claim(id)? {
                return Ok(container);
            }
            // The sender is part of this sandbox and lives as long.
            let _ = settled.changed().await;
        }
    }

    fn try_claim(&self, id: &str) -> Result<Option<Arc<Container>>> {
        let mut containers = self.containers();
        let slot = containers.get_mut(id).ok_or_else(|| Error::NoContainer(id.to_owned()))?;
        match slot {
            Slot::Deleting => Ok(None),
            Slot::Making { unwanted } => {
                *unwanted = true;
                // Where there is no cgroup yet, its maker looks before it goes on.
                let _ = cgroup::kill(id);
                Ok(None)
            }
            Slot::Present(container) => {
                let container = Arc::clone(container);
                *slot = Slot::Deleting;
                Ok(Some(container))
            }
        }
    }
}
