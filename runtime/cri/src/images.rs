//! The images of the node, and which of them containers use.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use image::digest::Digest;
use image::hosts::Hosts;
use image::pull::Puller;
use image::registry::Patience;
use image::store::{Hold, Image, Store, StoreError};
use oci_spec::image::ImageConfiguration;

use crate::fault::Fault;

/// The images.
#[derive(Debug)]
pub(crate) struct Images {
    /// Where they are.
    pub(crate) store: Store,
    /// How more come.
    pub(crate) puller: Puller,
    /// By the container: its image, and those that are its volumes.
    holds: Mutex<HashMap<String, Vec<Hold>>>,
}

/// An image that a container is to have.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its id.
    pub(crate) id: String,
    /// How its containers run.
    pub(crate) config: ImageConfiguration,
    /// Its layers' files, the lowest one first.
    pub(crate) layers: Vec<PathBuf>,
}

impl Images {
    /// The images of a store, and more from where `hosts` says.
    pub(crate) fn new(store: Store, hosts: Hosts) -> Self {
        let puller = Puller::new(store.clone(), hosts, Patience::default());
        Self { store, puller, holds: Mutex::default() }
    }

    /// The image that a text names: an id, a name, the beginning of an id.
    ///
    /// # Errors
    /// [`Fault::NotFound`].
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Image>, Fault> {
        Ok(Arc::clone(self.store.view().find(text)?))
    }

    /// The text of an image's configuration.
    ///
    /// # Errors
    /// [`Fault::NotFound`], or what the store said.
    pub(crate) async fn config(&self, id: &Digest) -> Result<Vec<u8>, Fault> {
        let (store, id) = (self.store.clone(), id.clone());
        let bytes = tokio::task::spawn_blocking(move || store.config(&id)).await;
        Ok(bytes.map_err(|error| Fault::Internal(error.to_string()))??)
    }

    /// Holds the image that a text names for a container, which keeps it until [`Self::release`].
    ///
    /// # Errors
    /// [`Fault::NotFound`], or what the store said.
    pub(crate) async fn hold(&self, text: &str, container: &str) -> Result<Held, Fault> {
        let image = self.find(text)?;
        let hold = self.store.hold(&image.id)?;
        let layers = hold.layers();
        let bytes = self.config(&image.id).await?;
        let config = ImageConfiguration::from_reader(&*bytes).map_err(|error| {
            Fault::Internal(format!("image {}: its configuration: {error}", image.id.as_str()))
        })?;
        self.keep(container, hold);
        Ok(Held { id: image.id.as_str().to_owned(), config, layers })
    }

    /// Holds the image that a text names as a volume of a container, until [`Self::release`]. Its id,
    /// and its layers' files, the lowest one first.
    ///
    /// # Errors
    /// [`Fault::NotFound`].
    pub(crate) fn hold_volume(
        &self,
        text: &str,
        container: &str,
    ) -> Result<(String, Vec<PathBuf>), Fault> {
        let hold = self.store.hold(&self.find(text)?.id)?;
        let held = (hold.image().id.to_string(), hold.layers());
        self.keep(container, hold);
        Ok(held)
    }

    /// Holds an image for a container that an earlier run of the daemon made.
    ///
    /// # Errors
    /// [`Fault::NotFound`] when it is gone.
    pub(crate) fn hold_again(&self, id: &str, container: &str) -> Result<(), Fault> {
        let digest = id
            .parse::<Digest>()
            .map_err(|error| Fault::Internal(format!("image id {id:?}: {error}")))?;
        self.keep(container, self.store.hold(&digest)?);
        Ok(())
    }

    /// The layers' files of an image that a container has, the lowest one first.
    pub(crate) fn layers(&self, id: &str, container: &str) -> Option<Vec<PathBuf>> {
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let hold = holds.get(container)?.iter().find(|hold| hold.image().id.as_str() == id);
        hold.map(Hold::layers)
    }

    fn keep(&self, container: &str, hold: Hold) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.entry(container.to_owned()).or_default().push(hold);
    }

    /// A container has no images any more. What was removed while it had them is freed now.
    ///
    /// # Errors
    /// What the store said; the next removal tries again.
    pub(crate) async fn release(&self, container: &str) -> Result<(), Fault> {
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
        let Some(holds) = holds else { return Ok(()) };
        let end = move || {
            let mut ended = Ok(());
            for hold in holds {
                ended = ended.and(hold.end());
            }
            ended
        };
        let ended = tokio::task::spawn_blocking(end).await;
        ended.map_err(|error| Fault::Internal(error.to_string()))?.map_err(Fault::from)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error.is_not_found() {
            true => Self::NotFound(text),
            false => Self::Internal(text),
        }
    }
}
