//! Pulls: an image from a registry into the store. All layers come side by side, each in one pass
//! from the socket to its EROFS file.
//!
//! ```text
//! pull ── registry: manifest, configuration ── a job for each layer ── all there ── commit
//!                                               │
//!          socket ─► channel ─► thread: digests, inflate, tar, EROFS ─► staged ─► kept
//! ```
//! - A layer that is wanted by several pulls comes once: they wait for the same job.
//! - Each pull has asked for the manifest by its own credentials before it waits for others' layers.
//! - A job ends when the last pull that waits for it goes.
//! - A pull whose job failed by another's fault tries the layer itself, once.

mod feed;
mod jobs;

use std::io::ErrorKind;
use std::sync::Arc;

use futures::future::try_join_all;
use tokio::sync::Semaphore;

use crate::digest::Digest;
use crate::hosts::Hosts;
use crate::layer::{Expected, LayerError};
use crate::manifest::Platform;
use crate::reference::Reference;
use crate::registry::{self, Login, Patience, Registry, RegistryError};
use crate::store::{Image, Lease, NewImage, Store, StoreError};
use jobs::{Jobs, Key};

/// Most layers that are converted at a time: each has a thread, its buffers, and its tree.
const AT_A_TIME: usize = 8;

/// Why an image did not come. One that waits for another's job is told that job's reason.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullError {
    /// The registry did not give it.
    #[error("pulling image {image}: {source}")]
    Registry {
        /// The image.
        image: String,
        /// Why.
        source: Arc<RegistryError>,
    },
    /// A layer can't be used.
    #[error("pulling image {image}: layer {layer}: {source}")]
    Layer {
        /// The image.
        image: String,
        /// The layer's digest.
        layer: Digest,
        /// Why.
        source: Arc<LayerError>,
    },
    /// The store can't keep it.
    #[error("pulling image {image}: {source}")]
    Store {
        /// The image.
        image: String,
        /// Why.
        source: Arc<StoreError>,
    },
    /// The daemon ends.
    #[error("pulling image {image}: given up, as the daemon ends")]
    Ended {
        /// The image.
        image: String,
    },
}

impl PullError {
    /// Whether the registry can't be reached or is in trouble, so that asking later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Registry { source, .. } if source.is_unavailable())
    }

    /// Whether the store's disk has no room.
    fn is_full(&self) -> bool {
        match self {
            Self::Store { source, .. } => source.is_full(),
            Self::Layer { source, .. } => matches!(
                &**source,
                LayerError::Output { source, .. } if source.kind() == ErrorKind::StorageFull
            ),
            Self::Registry { .. } | Self::Ended { .. } => false,
        }
    }

    fn registry(image: &str, source: RegistryError) -> Self {
        Self::Registry { image: image.to_owned(), source: Arc::new(source) }
    }

    fn store(image: &str, source: StoreError) -> Self {
        Self::Store { image: image.to_owned(), source: Arc::new(source) }
    }
}

/// Pulls images into a store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Puller {
    store: Store,
    hosts: Hosts,
    patience: Patience,
    platform: Platform,
    jobs: Arc<Jobs>,
    slots: Arc<Semaphore>,
}

/// One pull.
#[derive(Debug, Clone)]
struct Pull {
    name: String,
    registry: Registry,
    store: Store,
    slots: Arc<Semaphore>,
}

impl Puller {
    /// Pulls into `store` what `hosts` says where to find.
    pub fn new(store: Store, hosts: Hosts, patience: Patience) -> Self {
        let slots = Arc::new(Semaphore::new(AT_A_TIME));
        let (platform, jobs) = (Platform::guest(), Arc::default());
        Self { store, hosts, patience, platform, jobs, slots }
    }

    /// Brings an image here, and calls it by the reference's tag and its digest. What is here
    /// already does not come again.
    ///
    /// # Errors
    /// [`PullError`]. Layers that came stay for the next try.
    pub async fn pull(&self, reference: &Reference, login: Login) -> Result<Arc<Image>, PullError> {
        let name = reference.familiar();
        let failed = |source| PullError::registry(&name, source);
        let (hosts, patience) = (&self.hosts, self.patience.clone());
        let registry = Registry::open(reference.clone(), hosts, login, patience).await;
        let registry = registry.map_err(failed)?;
        for warning in registry.warnings() {
            log::warn!("{warning}");
        }
        let image = registry.image(&self.platform).await.map_err(failed)?;
        let lease = Arc::new(self.store.lease());
        let (store, slots) = (self.store.clone(), Arc::clone(&self.slots));
        let pull = Pull { name: name.clone(), registry, store, slots };
        let layers = image.manifest.layers.iter().zip(&image.config.diff_ids);
        let layers = layers.map(|(layer, diff_id)| {
            let (digest, size) = (layer.blob.digest.clone(), layer.blob.size);
            let expected = Expected { digest, size, diff_id: Some(diff_id.clone()) };
            self.layer(&pull, layer.blob.clone(), expected, &lease)
        });
        let here = match try_join_all(layers).await {
            Ok(_) => self.commit(&name, reference, image, lease).await,
            Err(error) => {
                drop(lease);
                Err(error)
            }
        };
        self.tidy(here.as_ref().err());
        here
    }

    /// Sees to it that what came is on the disk, or that what a full disk has no room for is gone.
    fn tidy(&self, error: Option<&PullError>) {
        let store = self.store.clone();
        let full = error.map(PullError::is_full);
        tokio::task::spawn_blocking(move || {
            let done = match full {
                None => store.settle().map(drop),
                Some(true) => store.collect(),
                Some(false) => Ok(()),
            };
            done.unwrap_or_else(|error| log::error!("image store: {error}"));
        });
    }

    /// Has a layer in the store, for the lease.
    async fn layer(
        &self,
        pull: &Pull,
        blob: crate::manifest::Blob,
        expected: Expected,
        lease: &Lease,
    ) -> Result<(), PullError> {
        let Some(diff_id) = expected.diff_id.clone() else { return Ok(()) };
        if lease.find(&diff_id) {
            return Ok(());
        }
        let key: Key = (expected.digest.clone(), diff_id.clone());
        let start = || feed::layer(pull.clone(), blob.clone(), expected.clone());
        let (job, own) = self.jobs.join(&key, start);
        let made = match job.done().await {
            // It was another's, whose credentials or mirror may be at fault.
            Err(_) if !own => {
                let (job, _) = self.jobs.join(&key, start);
                job.done().await?
            }
            made => made?,
        };
        match lease.find(&diff_id) {
            true => Ok(()),
            false => {
                drop(made);
                let source = StoreError::NoLayer { id: expected.digest, layer: diff_id };
                Err(PullError::store(&pull.name, source))
            }
        }
    }

    async fn commit(
        &self,
        name: &str,
        reference: &Reference,
        image: registry::Image,
        lease: Arc<Lease>,
    ) -> Result<Arc<Image>, PullError> {
        let mut names = vec![reference.with_digest(image.digest.clone())];
        if reference.digest().is_none() {
            names.push(reference.clone());
        }
        let committed = tokio::task::spawn_blocking(move || {
            let (config, manifest) = (&*image.config_text, &image.manifest);
            lease.commit(&NewImage { config, manifest, names: &names, pinned: false })
        });
        let ended = |_| PullError::Ended { image: name.to_owned() };
        committed.await.map_err(ended)?.map_err(|source| PullError::store(name, source))
    }
}
