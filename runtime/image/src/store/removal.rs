//! Removing images, and the files that nobody needs any more.

use std::sync::Arc;

use super::error::StoreError;
use super::image::Image;
use super::{Shared, Store, not_found, step, tables};
use crate::digest::Digest;

/// What a removal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The files that only this image had are gone.
    Freed,
    /// The image is out of sight. A container uses it, or may: its files go with the last use.
    InUse,
}

/// Which images to remove when nothing uses them. Pinned ones stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Those without a tag.
    Untagged,
    /// All.
    Unused,
}

impl Store {
    /// Removes an image with all its names: whoever looks at the store then does not see it. The
    /// disk has its room again when this returns, unless a container uses the image.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such image, which Kubernetes wants to be a success.
    /// [`StoreError::Io`] if a file can't be deleted: the image is removed nevertheless, and the
    /// next removal tries again.
    pub fn remove(&self, id: &Digest) -> Result<Removed, StoreError> {
        let _writer = self.0.writer()?;
        self.0.remove(id)
    }

    /// Removes images that no container uses. Returns their ids.
    ///
    /// # Errors
    /// As of [`Store::remove`]. Nothing is removed before [`Store::uses_known`].
    pub fn prune(&self, which: Prune) -> Result<Vec<Digest>, StoreError> {
        let _writer = self.0.writer()?;
        let mut removed = Vec::new();
        for image in self.unused(which) {
            // Somebody may have come meanwhile.
            if !self.0.memory().is_held(&image.id) {
                self.0.remove(&image.id)?;
                removed.push(image.id.clone());
            }
        }
        Ok(removed)
    }

    /// The images that [`Store::prune`] would remove now. None before [`Store::uses_known`].
    pub fn unused(&self, which: Prune) -> Vec<Arc<Image>> {
        let view = self.view();
        let memory = self.0.memory();
        let chosen = view.images().filter(|image| {
            let meant = !image.pinned && (which == Prune::Unused || image.tags.is_empty());
            meant && memory.uses_known && !memory.is_held(&image.id)
        });
        chosen.cloned().collect()
    }

    /// Deletes what nobody needs: removed images whose use has ended, and layers of pulls that
    /// came to nothing.
    ///
    /// # Errors
    /// Of the database or the deletion, which can be tried again.
    pub fn collect(&self) -> Result<(), StoreError> {
        let _writer = self.0.writer()?;
        self.0.collect()
    }

    /// Says that everything which was in use before the daemon started is held again. What was
    /// removed in use and is not held is deleted now.
    ///
    /// # Errors
    /// As of [`Store::collect`].
    pub fn uses_known(&self) -> Result<(), StoreError> {
        self.0.memory().uses_known = true;
        self.collect()
    }
}

impl Shared {
    /// The caller has the writer.
    fn remove(&self, id: &Digest) -> Result<Removed, StoreError> {
        let view = self.view();
        view.get(id).ok_or_else(|| not_found(id))?;
        let keep = {
            let mut memory = self.memory();
            memory.condemn(id);
            let hidden = view.hidden().map(|image| image.id.clone());
            memory.needed(hidden.chain([id.clone()]))
        };
        let changed = self.change_with_room("removing an image", |rows| {
            tables::hide(rows, id)?;
            tables::forget(rows, &keep)
        });
        self.memory().spare(id);
        changed?;
        self.delete_unneeded()?;
        Ok(if keep.contains(id) { Removed::InUse } else { Removed::Freed })
    }

    /// The caller has the writer.
    pub(super) fn collect(&self) -> Result<(), StoreError> {
        let view = self.view();
        let hidden: Vec<_> = view.hidden().map(|image| image.id.clone()).collect();
        let keep = self.memory().needed(hidden.iter().cloned());
        if keep.len() < hidden.len() {
            self.change_with_room("forgetting removed images", |rows| tables::forget(rows, &keep))?;
        }
        self.delete_unneeded()
    }

    /// Images lose a layer that the disk refused.
    pub(super) fn distrust(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let _writer = self.writer()?;
        self.memory().lose(diff_id);
        self.files.unlink(diff_id)?;
        let view = self.view();
        let has = |image: &&Arc<Image>| image.layers.iter().any(|layer| layer.diff_id == *diff_id);
        let lost: Vec<_> = view.images().filter(has).map(|image| image.id.clone()).collect();
        self.change_with_room("removing images without their layer", |rows| {
            tables::forget_layers(rows, std::slice::from_ref(diff_id))?;
            lost.iter().try_for_each(|id| tables::hide(rows, id))
        })
    }

    /// Deletes the files that no image and no lease needs. All are tried; the first failure is
    /// returned.
    fn delete_unneeded(&self) -> Result<(), StoreError> {
        let needed = self.referenced();
        let unneeded = self.memory().take_unneeded(&needed);
        let mut outcome = Ok(());
        for (diff_id, layer) in unneeded {
            step();
            if let Err(error) = self.files.unlink(&diff_id) {
                // It is still there, and counts.
                self.memory().layers.insert(diff_id, layer);
                outcome = outcome.and(Err(error));
            }
        }
        step();
        // For want of room, the next removal or addition tries again.
        let _ = self.files.set_aside();
        outcome
    }
}
