//! What keeps layers in place: a pull's lease and a container's hold.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::StoreError;
use super::image::{self, Checked, Image, NewImage};
use super::memory::LayerFile;
use super::staged::Staged;
use super::tables::{self, Addition, LayerRow};
use super::{Shared, not_found, step};
use crate::digest::Digest;

/// The layers that one pull has or has made. Nobody deletes them while it lasts.
///
/// When it is dropped without a commit, the layers stay for the next try of the pull, until a
/// removal or [`super::Store::collect`].
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    layers: Mutex<BTreeSet<Digest>>,
}

impl Lease {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, layers: Mutex::default() }
    }

    /// Leases a layer if it is here already. Waits for no disk.
    pub fn find(&self, diff_id: &Digest) -> bool {
        let mut layers = self.layers();
        layers.contains(diff_id) || {
            let found = self.shared.memory().lease(diff_id);
            found && layers.insert(diff_id.clone())
        }
    }

    /// Leases a layer that is made now. Its content, all of it in the file, is known by the caller
    /// to be of this digest. A layer that came here meanwhile is kept in its place.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the file can't be moved. It is deleted then.
    pub fn keep(&self, staged: Staged, diff_id: &Digest) -> Result<(), StoreError> {
        let _writer = self.shared.writer()?;
        let lost = self.shared.memory().layer(diff_id).is_none();
        if !lost && self.find(diff_id) {
            return Ok(());
        }
        step();
        let measure = self.shared.files.keep(staged, diff_id)?;
        step();
        let file = LayerFile::new(measure, self.shared.boot.clone());
        self.shared.memory().keep(diff_id, file);
        self.find(diff_id);
        Ok(())
    }

    /// Adds an image whose layers this lease has. Names that other images had move to it, and an
    /// image that was removed while it was used is back.
    ///
    /// # Errors
    /// Nothing is added then: [`StoreError::NoLayer`], [`StoreError::TooManyNames`],
    /// [`StoreError::Configuration`], [`StoreError::Manifest`], or what the disk refuses.
    /// The disk is full also if no room for a later removal is left.
    pub fn commit(&self, new: &NewImage<'_>) -> Result<Arc<Image>, StoreError> {
        let checked = Checked::new(new)?;
        let shared = &self.shared;
        let _writer = shared.writer()?;
        shared.check_names(&checked.id, new.names)?;
        // Whoever fills the disk must be able to remove it.
        shared.files.set_aside()?;
        let layers = self.rows(&checked)?;
        let changed = shared.change("adding an image", |rows| {
            let (names, pinned, now) = (new.names, new.pinned, image::now());
            let (image, config, layers) = (&checked, new.config, layers.as_slice());
            tables::add(rows, &Addition { image, config, names, pinned, now, layers })
        });
        let here = shared.view().get(&checked.id).cloned();
        match (changed, here) {
            (Ok(()), here) => here.ok_or_else(|| not_found(&checked.id)),
            // The disk may refuse something after all rows are on it.
            (Err(_), Some(image)) if image.is(new) => Ok(image),
            (Err(error), _) => Err(error),
        }
    }

    fn rows(&self, image: &Checked) -> Result<Vec<LayerRow>, StoreError> {
        let (leased, memory) = (self.layers(), self.shared.memory());
        let row = |(diff_id, _): &(Digest, u64)| {
            let layer = memory.layer(diff_id).filter(|_| leased.contains(diff_id));
            let missing = || StoreError::NoLayer { id: image.id.clone(), layer: diff_id.clone() };
            let layer = layer.ok_or_else(missing)?;
            let (size, boot) = (layer.measure.size, layer.boot.clone());
            Ok(LayerRow { diff_id: diff_id.as_str().to_owned(), size, boot })
        };
        image.layers.iter().map(row).collect()
    }

    fn layers(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let layers = std::mem::take(&mut *self.layers());
        self.shared.memory().release_layers(&layers);
    }
}

/// An image that a container uses. Its layers' files stay as long as this lasts.
///
/// Dropping it waits for nothing, and leaves the files of a removed image to the next removal.
/// [`Hold::end`] deletes them at once.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    image: Arc<Image>,
}

impl Hold {
    pub(super) fn new(shared: Arc<Shared>, image: Arc<Image>) -> Self {
        Self { shared, image }
    }

    /// The image as it was when it was taken.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The layers' files, the lowest one first.
    pub fn layers(&self) -> Vec<PathBuf> {
        let layers = self.image.layers.iter();
        layers.map(|layer| self.shared.files.layer(&layer.diff_id)).collect()
    }

    /// Ends the use. If the image was removed and this was its last use, its files are deleted
    /// before this returns.
    ///
    /// # Errors
    /// Of the deletion, which the next removal tries again.
    pub fn end(self) -> Result<(), StoreError> {
        let (shared, id) = (self.shared.clone(), self.image.id.clone());
        drop(self);
        if shared.view().get(&id).is_some() {
            return Ok(());
        }
        let _writer = shared.writer()?;
        shared.collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.memory().release_image(&self.image.id);
    }
}
