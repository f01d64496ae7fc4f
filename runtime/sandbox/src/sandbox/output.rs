//! What a daemon of ours asks for beyond containerd's calls. It wants the list of containers, logs
//! that go on in a new file, and clients that look on. The guest is not asked for any of it.

use api::request::StdioPaths;
use api::{ContainerId, Error, User};

use super::{Sandbox, Slot};
use crate::container::{Container, ProcessView};

/// A container of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: ContainerId,
    /// Whether it is the pod itself.
    pub pod: bool,
    /// Its first process.
    pub init: ProcessView,
    /// Whether the guest's kernel killed a process of it for want of memory.
    pub out_of_memory: bool,
    /// Who its first process is, as the guest says. None for the pod itself.
    pub user: Option<User>,
}

impl Listed {
    fn new(id: &ContainerId, container: &Container) -> Self {
        let init = container.view_of(&container.init);
        let out_of_memory = container.oom_kills > 0;
        let (pod, user) = (container.is_pod(), container.user.clone());
        Self { id: id.clone(), pod, init, out_of_memory, user }
    }
}

impl Sandbox {
    /// All containers, by name. One that is still being made is not among them.
    ///
    /// # Errors
    /// That the sandbox is gone.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        self.look(|owner| {
            let present = owner.containers.iter().filter_map(|(id, slot)| match slot {
                Slot::Present(container) => Some(Listed::new(id, container)),
                Slot::Reserved => None,
            });
            Ok(present.collect())
        })
        .await
    }

    /// Opens a container's log anew, whose file was moved away. The old one is complete and closed
    /// when this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] for a container without a log of ours;
    /// [`Error::Failed`] when the file can't be made: then the old one goes on being written.
    pub async fn reopen_log(&self, id: ContainerId) -> Result<(), Error> {
        let asked = id.clone();
        let log = self.look(move |owner| Ok(owner.container(&asked)?.init.streams.log())).await?;
        let log = log.ok_or_else(|| Error::State(format!("container {id} has no log of ours")))?;
        let path = log.path().display();
        log.reopen().await.map_err(|error| Error::failed(&format!("opening log {path}"), &error))
    }

    /// Hands a container's output to one more client, which reads from the fifos of `paths`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] when nobody reads a fifo; [`Error::State`] when too
    /// many clients are attached.
    pub async fn attach(&self, id: ContainerId, paths: StdioPaths) -> Result<(), Error> {
        self.look(move |owner| owner.container(&id)?.init.streams.attach(&paths)).await
    }
}
