//! The guest as a whole: what containers and streams there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::container::{Container, check_id};
use crate::error::{Error, Result};
use crate::oci::Spec;
use crate::pod_pids::PodPids;
use crate::pod_users::PodUsers;
use crate::reaper::Reaper;
use crate::stdio::Streams;

/// An id in use.
#[derive(Debug)]
enum Slot {
    /// The container is being made or deleted.
    Busy,
    Present(Arc<Container>),
}

/// Owner of everything that the services act on.
#[derive(Debug)]
pub(crate) struct Sandbox {
    streams: Arc<Streams>,
    reaper: Arc<Reaper>,
    containers: Mutex<HashMap<String, Slot>>,
    pod_pids: PodPids,
    pod_users: PodUsers,
}

impl Sandbox {
    /// An empty sandbox.
    pub(crate) fn new(reaper: Arc<Reaper>) -> Self {
        Self {
            streams: Arc::default(),
            reaper,
            containers: Mutex::default(),
            pod_pids: PodPids::default(),
            pod_users: PodUsers::default(),
        }
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
        &self,
        id: &str,
        mut spec: Spec,
        streams: agent_api::types::Streams,
    ) -> Result<i32> {
        check_id(id)?;
        self.resolve_namespaces(&mut spec).await?;
        let making = self.pod_users.resolve(&mut spec).await?;
        match self.containers().entry(id.to_owned()) {
            Entry::Occupied(_) => return Err(Error::Exists(id.to_owned())),
            Entry::Vacant(entry) => entry.insert(Slot::Busy),
        };
        let outside = (&*self.reaper, &*self.streams);
        match Container::create(id, spec, streams, outside).await {
            Ok((container, pid)) => {
                if let Some(Err(error)) = making.map(|making| making.keep(pid)) {
                    log::warn!("container {id}: {error}");
                }
                self.containers().insert(id.to_owned(), Slot::Present(container));
                Ok(pid)
            }
            Err(error) => {
                self.containers().remove(id);
                Err(error)
            }
        }
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

    /// Deletes a container; see [`Container::delete`].
    ///
    /// # Errors
    /// There is none, or it runs.
    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        self.containers().insert(id.to_owned(), Slot::Busy);
        let result = container.delete().await;
        if result.is_ok() {
            self.containers().remove(id);
        } else {
            self.containers().insert(id.to_owned(), Slot::Present(container));
        }
        result
    }
}
