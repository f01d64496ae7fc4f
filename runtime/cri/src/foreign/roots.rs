//! Root file systems of foreign containers, and images that they have as volumes. Which layers are
//! needed is told by the rows alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use overlay::Layers;
use tokio::sync::Mutex;

use crate::fault::{Fault, blocking};

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

    /// Mounts the files of an image's layers, the lowest one first, for a container whose row is on
    /// record. What it writes goes below `directory`.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the path.
    pub(crate) async fn mount(
        &self,
        files: &[PathBuf],
        directory: &Path,
        root: &Path,
    ) -> Result<(), Fault> {
        let (directory, root) = (directory.to_owned(), root.to_owned());
        let over = move |layers: &Layers, mut lower: Vec<PathBuf>| {
            if lower.is_empty() {
                lower.push(layers.empty()?);
            }
            overlay::mount_root(&lower, &directory, &root)
        };
        self.mount_over(files, over).await
    }

    /// Mounts the files of an image's layers, the lowest one first, as a volume of a container whose
    /// row is on record. Nothing can be written to it.
    ///
    /// # Errors
    /// [`Fault::Internal`] with the path.
    pub(crate) async fn mount_volume(&self, files: &[PathBuf], at: &Path) -> Result<(), Fault> {
        let at = at.to_owned();
        self.mount_over(files, move |_, lower| overlay::mount_view(&lower, &at)).await
    }

    /// Mounts layers, and over them what `over` makes.
    async fn mount_over(
        &self,
        files: &[PathBuf],
        over: impl FnOnce(&Layers, Vec<PathBuf>) -> Result<(), overlay::Error> + Send + 'static,
    ) -> Result<(), Fault> {
        let _one = self.one.lock().await;
        let (layers, files) = (self.layers.clone(), files.to_vec());
        let mounted = blocking("mounting an image", move || {
            let lower = files.iter().map(|file| layers.mount(file)).collect::<Result<_, _>>()?;
            over(&layers, lower)
        });
        mounted.await?.map_err(|error| Fault::Internal(error.to_string()))
    }

    /// Unmounts all layers but those of the files that are needed then.
    pub(crate) async fn collect(&self, needed: impl FnOnce() -> Vec<PathBuf>) {
        let _one = self.one.lock().await;
        let (layers, needed) = (self.layers.clone(), needed());
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
