//! How far a pull is, for whoever waits for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::jobs::Received;
use crate::digest::Digest;
use crate::manifest::Blob;

/// What is known of a pull's layers; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Vec<Layer>>>);

/// How far one layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// The digest of what the registry sends.
    pub digest: Digest,
    /// Bytes of that.
    pub size: u64,
    /// Bytes that have come. Fewer than before if it is asked for once more.
    pub received: u64,
    /// Whether the layer is here. It may have been, and then no byte has come.
    pub done: bool,
}

#[derive(Debug)]
struct Layer {
    blob: Blob,
    received: Received,
    done: bool,
}

impl Progress {
    /// All layers, the lowest one first; none before the manifest has come.
    pub fn layers(&self) -> Vec<LayerProgress> {
        let told = |layer: &Layer| LayerProgress {
            digest: layer.blob.digest.clone(),
            size: layer.blob.size,
            received: layer.received.load(Ordering::Relaxed).min(layer.blob.size),
            done: layer.done,
        };
        self.all().iter().map(told).collect()
    }

    /// The manifest has come.
    pub(super) fn begin<'a>(&self, blobs: impl Iterator<Item = &'a Blob>) {
        let layer =
            |blob: &Blob| Layer { blob: blob.clone(), received: Received::default(), done: false };
        *self.all() = blobs.map(layer).collect();
    }

    /// A layer comes by a job, which counts its bytes.
    pub(super) fn comes(&self, number: usize, received: Received) {
        if let Some(layer) = self.all().get_mut(number) {
            layer.received = received;
        }
    }

    /// A layer is here.
    pub(super) fn is_here(&self, number: usize) {
        if let Some(layer) = self.all().get_mut(number) {
            layer.done = true;
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Layer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
