//! The pod's user namespace, which its containers share as they share its network
//! ([`agent_api::POD_USER_NAMESPACE`]). It is the one that the first container makes for itself;
//! kept open here, it stays when that container has gone.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tokio::sync::{Mutex, MutexGuard};

use oci_spec::runtime::LinuxIdMapping;

use crate::oci::{NamespaceType, Spec};

/// The namespace, and its maps of users and groups.
#[derive(Debug)]
struct Made {
    namespace: File,
    maps: [Vec<LinuxIdMapping>; 2],
}

/// A container asks for the pod's namespace with other id maps than the pod's.
#[derive(Debug, thiserror::Error)]
#[error("id maps differ from those of the pod")]
pub(crate) struct OtherMaps;

/// The namespace, once a container has asked for it.
#[derive(Debug, Default)]
pub(crate) struct PodUsers(Mutex<Option<Made>>);

/// A container is about to make the pod's namespace; nobody else may at this time. It takes no
/// longer than the first process of the container needs for it.
#[derive(Debug)]
pub(crate) struct Making<'a> {
    place: MutexGuard<'a, Option<Made>>,
    maps: [Vec<LinuxIdMapping>; 2],
}

impl PodUsers {
    /// Lets a container that names the pod's user namespace join it, or make it if there is none.
    ///
    /// # Errors
    /// [`OtherMaps`].
    pub(crate) async fn resolve(&self, spec: &mut Spec) -> Result<Option<Making<'_>>, OtherMaps> {
        let linux = &mut spec.linux;
        let maps = [linux.uid_mappings.clone(), linux.gid_mappings.clone()];
        let named = |path: &Path| path == Path::new(agent_api::POD_USER_NAMESPACE);
        let mut namespaces = linux.namespaces.iter_mut();
        let Some(namespace) =
            namespaces.find(|one| one.kind == NamespaceType::User && one.path().is_some_and(named))
        else {
            return Ok(None);
        };
        let place = self.0.lock().await;
        match &*place {
            None => {
                namespace.path = None;
                Ok(Some(Making { place, maps }))
            }
            Some(made) if made.maps == maps => {
                namespace.path = Some(made.path());
                Ok(None)
            }
            Some(_) => Err(OtherMaps),
        }
    }
}

impl Made {
    /// The path by which a process of the guest's first pid namespace joins.
    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd()).into()
    }
}

impl Making<'_> {
    /// Keeps the namespace of the container's first process, which has not been started.
    ///
    /// # Errors
    /// The process has ended all the same.
    pub(crate) fn keep(mut self, pid: i32) -> io::Result<()> {
        let namespace = File::open(format!("/proc/{pid}/ns/user"))?;
        *self.place = Some(Made { namespace, maps: self.maps });
        Ok(())
    }
}
