//! What is fixed about a pod, and the way to its shim.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use api::ExecId;
use api::request::Target;
use shim_client::Shim;
use tokio::sync::watch;

use crate::classes::Class;
use crate::fault::Fault;
use crate::ids;
use crate::node::Node;

/// Where a pod is, for everybody who works on it.
#[derive(Debug)]
pub(crate) struct Site {
    /// Its id.
    pub(crate) id: String,
    /// The node.
    pub(crate) node: Arc<Node>,
    /// By what it runs.
    pub(crate) class: Class,
    shim: RwLock<Option<Shim>>,
    ending: AtomicBool,
    clients: watch::Sender<usize>,
}

/// A client of a container's output, until this is dropped.
#[derive(Debug)]
pub(crate) struct ClientPlace(Arc<Site>);

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.0.clients.send_modify(|count| *count -= 1);
    }
}

impl Site {
    /// The place of a pod that has no shim yet.
    pub(crate) fn new(id: &str, node: &Arc<Node>, class: Class) -> Self {
        let (id, node) = (id.to_owned(), Arc::clone(node));
        let (shim, ending, clients) = Default::default();
        Self { id, node, class, shim, ending, clients }
    }

    /// Counts a client of a container's output, which its shim has to hand on to the end.
    pub(crate) fn client(self: &Arc<Self>) -> ClientPlace {
        self.clients.send_modify(|count| *count += 1);
        ClientPlace(Arc::clone(self))
    }

    /// Waits until no client has yet to get output.
    pub(crate) async fn without_clients(&self) {
        let mut clients = self.clients.subscribe();
        // The sender is this site's own.
        let _none = clients.wait_for(|count| *count == 0).await.map(drop);
    }

    /// Whether its shim's end has been asked for.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Says that its shim's end is asked for.
    pub(crate) fn set_ending(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// The shim.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when there is none, or none any more.
    pub(crate) fn shim(&self) -> Result<Shim, Fault> {
        let shim = self.shim.read().unwrap_or_else(PoisonError::into_inner).clone();
        shim.ok_or_else(|| Fault::Unavailable(format!("pod sandbox {} has no shim", self.id)))
    }

    /// Says which shim it has from now on.
    pub(crate) fn set_shim(&self, shim: Option<Shim>) {
        *self.shim.write().unwrap_or_else(PoisonError::into_inner) = shim;
    }

    /// Its bundle, on a file system that forgets at a restart of the node.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.node.places.bundle(&self.id)
    }
}

/// A container's init process.
///
/// # Errors
/// None of an id that the daemon made.
pub(crate) fn init(id: &str) -> Result<Target, Fault> {
    Ok(Target { container: ids::of_container(id)?, exec: None })
}

/// Another process of a container.
///
/// # Errors
/// None of ids that the daemon made.
pub(crate) fn exec(id: &str, exec: &str) -> Result<Target, Fault> {
    let exec = ExecId::new(exec).map_err(|error| Fault::InvalidArgument(error.to_string()))?;
    Ok(Target { container: ids::of_container(id)?, exec: Some(exec) })
}
