//! Root file systems of foreign containers. Which layers are needed is told by the rows alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use overlay::Layers;
use tokio::sync::Mutex;

use super::blocking;
use crate::fault::Fault;
use crate::images::Held;
use crate::node::Node;
use crate::row::ContainerPhase;

/// The root file systems; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    layers: Layers,
    /// Keeps a layer from going between its mounting and that of the overlay.
    one: Arc<Mutex<()>>,
}

impl Roots {
    /// Root file systems whose layers are mounted below `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { layers: Layers::new(directory), one: Arc::default() }
    }

    /// Mounts an image for a container, whose row is on record. What it writes goes below
    /// `directory`.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the path.
    pub(crate) async fn mount(
        &self,
        held: &Held,
        directory: &Path,
        root: &Path,
    ) -> Result<(), Fault> {
        let _one = self.one.lock().await;
        let (layers, files) = (self.layers.clone(), held.layers.clone());
        let (directory, root) = (directory.to_owned(), root.to_owned());
        let mounted = blocking("mounting a root file system", move || {
            let mut lower =
                files.iter().map(|file| layers.mount(file)).collect::<Result<Vec<_>, _>>()?;
            if lower.is_empty() {
                lower.push(layers.empty()?);
            }
            overlay::mount_root(&lower, &directory, &root)
        });
        mounted.await?.map_err(|error| Fault::Internal(error.to_string()))
    }

    /// Unmounts the layers that no container needs but for `gone`, if one is named.
    pub(crate) async fn collect(&self, node: &Node, gone: Option<&str>) {
        let _one = self.one.lock().await;
        let needed = needed(node, gone);
        let layers = self.layers.clone();
        let kept = blocking("unmounting layers", move || layers.keep(&needed)).await;
        let told = match kept {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(fault) => fault.to_string(),
        };
        // The next collection tries again.
        log::warn!("layers that nobody needs: {told}");
    }
}

/// The files of layers of all foreign containers that are not being removed.
fn needed(node: &Node, gone: Option<&str>) -> Vec<PathBuf> {
    let now = node.records.now();
    let foreign = |pod: &str| {
        let class = now.pods.get(pod).and_then(|pod| node.classes.of(pod).ok());
        class.is_some_and(|class| !class.is_own())
    };
    let rows = now.containers.values().filter(|row| foreign(&row.pod));
    let rows = rows.filter(|row| row.phase() != ContainerPhase::Removing);
    let rows = rows.filter(|row| Some(&*row.id) != gone);
    rows.flat_map(|row| node.images.layers_of(&row.id)).collect()
}
