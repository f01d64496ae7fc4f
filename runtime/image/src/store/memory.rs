//! What the store knows only while it is open: which files are in place, and who holds what.
//!
//! A pull's lease holds layers, a container's use holds an image. Holding is counted under one
//! short lock and never waits for the disk. Whoever deletes something takes it out of here first,
//! under the same lock: it is held by then, or can't be held any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::staged::Measure;
use crate::digest::Digest;

/// A layer whose file is in its place.
#[derive(Debug, Clone)]
pub(super) struct LayerFile {
    pub(super) measure: Measure,
    /// The boot that its content is only known to be whole in. Empty: it is on the disk.
    pub(super) boot: String,
    /// The disk refused it: the file is gone, and who leased it can't use it.
    lost: bool,
    leases: usize,
}

impl LayerFile {
    pub(super) fn new(measure: Measure, boot: String) -> Self {
        Self { measure, boot, lost: false, leases: 0 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) layers: BTreeMap<Digest, LayerFile>,
    uses: BTreeMap<Digest, usize>,
    /// Images that are being removed.
    dying: BTreeSet<Digest>,
    /// Whether all containers that outlived the last daemon have said what they use.
    pub(super) uses_known: bool,
    /// The rows may have changed since the view was made.
    pub(super) stale: bool,
    /// Seconds of each image's last use, shared with all views.
    used: BTreeMap<Digest, Arc<AtomicU64>>,
    touched: BTreeSet<Digest>,
}

impl Memory {
    /// A layer that can be used.
    pub(super) fn layer(&self, diff_id: &Digest) -> Option<&LayerFile> {
        self.layers.get(diff_id).filter(|layer| !layer.lost)
    }

    /// A layer's file was put in its place.
    pub(super) fn keep(&mut self, diff_id: &Digest, file: LayerFile) {
        let leases = self.layers.get(diff_id).map_or(0, |layer| layer.leases);
        self.layers.insert(diff_id.clone(), LayerFile { leases, ..file });
    }

    /// A layer's file is deleted, whoever leases it.
    pub(super) fn lose(&mut self, diff_id: &Digest) {
        if let Some(layer) = self.layers.get_mut(diff_id) {
            layer.measure = Measure::default();
            layer.boot = String::new();
            layer.lost = true;
        }
    }

    /// Counts one more lease on a layer, if it is here.
    pub(super) fn lease(&mut self, diff_id: &Digest) -> bool {
        let layer = self.layers.get_mut(diff_id).filter(|layer| !layer.lost);
        layer.is_some_and(|layer| {
            layer.leases += 1;
            true
        })
    }

    pub(super) fn release_layers<'a>(&mut self, diff_ids: impl IntoIterator<Item = &'a Digest>) {
        for diff_id in diff_ids {
            if let Some(layer) = self.layers.get_mut(diff_id) {
                layer.leases = layer.leases.saturating_sub(1);
            }
        }
    }

    /// Counts one more use of an image, unless it is being removed.
    pub(super) fn hold(&mut self, id: &Digest, now: u64) -> bool {
        if self.dying.contains(id) {
            return false;
        }
        *self.uses.entry(id.clone()).or_default() += 1;
        self.used(id, now).fetch_max(now, Ordering::Relaxed);
        self.touched.insert(id.clone());
        true
    }

    pub(super) fn release_image(&mut self, id: &Digest) {
        if let Some(count) = self.uses.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.uses.remove(id);
            }
        }
    }

    pub(super) fn is_held(&self, id: &Digest) -> bool {
        self.uses.contains_key(id)
    }

    /// From now on the image can't be held, unless it is.
    pub(super) fn condemn(&mut self, id: &Digest) {
        if self.uses_known && !self.is_held(id) {
            self.dying.insert(id.clone());
        }
    }

    /// The image's removal has ended, well or not.
    pub(super) fn spare(&mut self, id: &Digest) {
        self.dying.remove(id);
    }

    /// Of these hidden images, those whose layers must stay.
    pub(super) fn needed(&self, hidden: impl IntoIterator<Item = Digest>) -> BTreeSet<Digest> {
        hidden.into_iter().filter(|id| !self.uses_known || self.is_held(id)).collect()
    }

    /// The cell of an image's last use, which is at least `at_least`.
    pub(super) fn used(&mut self, id: &Digest, at_least: u64) -> Arc<AtomicU64> {
        let cell = self.used.entry(id.clone()).or_default();
        cell.fetch_max(at_least, Ordering::Relaxed);
        cell.clone()
    }

    /// The last uses that no row knows yet.
    pub(super) fn touched(&mut self) -> Vec<(Digest, u64)> {
        let touched = std::mem::take(&mut self.touched);
        let used = |id: Digest| {
            let seconds = self.used.get(&id)?.load(Ordering::Relaxed);
            Some((id, seconds))
        };
        touched.into_iter().filter_map(used).collect()
    }

    /// Takes out the layers that no image and no lease needs: their files can go.
    pub(super) fn take_unneeded(&mut self, needed: &BTreeSet<Digest>) -> Vec<(Digest, LayerFile)> {
        let unneeded = self
            .layers
            .extract_if(.., |diff_id, layer| layer.leases == 0 && !needed.contains(diff_id));
        unneeded.collect()
    }

    /// Forgets the last uses of images that are gone.
    pub(super) fn keep_images(&mut self, here: &BTreeSet<Digest>) {
        self.used.retain(|id, _| here.contains(id));
    }
}
