//! The images of the node, and which of them containers use.

mod parents;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use image::digest::Digest;
use image::hosts::Hosts;
use image::pull::Puller;
use image::store::{Hold, Image, Store, StoreError};
use image::worker::Launcher;
use oci_spec::image::ImageConfiguration;

use crate::fault::{Fault, blocking};
use parents::Parents;

/// The images.
#[derive(Debug)]
pub(crate) struct Images {
    /// Where they are.
    pub(crate) store: Store,
    /// How more come.
    pub(crate) puller: Puller,
    /// How processes start that read what is a stranger's.
    pub(crate) workers: Launcher,
    /// By the container: its image, and those that are its volumes.
    holds: Mutex<HashMap<String, Vec<Hold>>>,
    parents: Parents,
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
    /// The images of a store, and more from where `hosts` says. What some have on top of their
    /// layers goes in the directory `parents`.
    pub(crate) fn new(store: Store, hosts: Hosts, parents: PathBuf) -> Self {
        let workers = Launcher::this_program();
        let puller = Puller::new(store.clone(), hosts, workers.clone());
        let parents = Parents::new(parents, workers.clone());
        Self { store, puller, workers, holds: Mutex::default(), parents }
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
        Ok(blocking("reading an image's configuration", move || store.config(&id)).await??)
    }

    /// Holds the image that a text names for a container, which keeps it until [`Self::release`].
    ///
    /// # Errors
    /// [`Fault::NotFound`], or what the store said.
    pub(crate) async fn hold(&self, text: &str, container: &str) -> Result<Held, Fault> {
        let image = self.find(text)?;
        let hold = self.store.hold(&image.id)?;
        let layers = self.files(&hold, container).await?;
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
    /// [`Fault::NotFound`], or what was wrong with its layers.
    pub(crate) async fn hold_volume(
        &self,
        text: &str,
        container: &str,
    ) -> Result<(String, Vec<PathBuf>), Fault> {
        let hold = self.store.hold(&self.find(text)?.id)?;
        let held = (hold.image().id.to_string(), self.files(&hold, container).await?);
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
        hold.map(|hold| {
            let mut files = hold.layers();
            files.extend(self.parents.get(&hold.image().id));
            files
        })
    }

    /// The files of all layers that an image has for a container.
    async fn files(&self, hold: &Hold, container: &str) -> Result<Vec<PathBuf>, Fault> {
        let mut files = hold.layers();
        let top = self.parents.make(&hold.image().id, &files, container).await?;
        files.extend(top);
        Ok(files)
    }

    /// Removes what images that are no more had on top of their layers.
    pub(crate) fn sweep(&self) {
        let view = self.store.view();
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let held = holds.values().flatten().map(|hold| &hold.image().id);
        self.parents.keep(view.images().map(|image| &image.id).chain(held));
    }

    fn keep(&self, container: &str, hold: Hold) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.entry(container.to_owned()).or_default().push(hold);
    }

    /// What a container holds, and the images that others hold.
    fn take(&self, container: &str) -> Option<(Vec<Hold>, BTreeSet<Digest>)> {
        let mut all = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.remove(container)?;
        Some((own, all.values().flatten().map(|hold| hold.image().id.clone()).collect()))
    }

    /// A container has no images any more. What was removed while it had them is freed now.
    ///
    /// # Errors
    /// What the store said; the next removal tries again.
    pub(crate) async fn release(&self, container: &str) -> Result<(), Fault> {
        let Some((holds, others)) = self.take(container) else { return Ok(()) };
        let (store, parents) = (self.store.clone(), self.parents.clone());
        let end = move || {
            let ids: BTreeSet<_> = holds.iter().map(|hold| hold.image().id.clone()).collect();
            let mut ended = Ok(());
            for hold in holds {
                ended = ended.and(hold.end());
            }
            let view = store.view();
            for id in ids.difference(&others).filter(|id| view.get(id).is_none()) {
                parents.forget(id);
            }
            ended
        };
        Ok(blocking("letting go of an image", end).await??)
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
