//! Pulls: an image from a registry into the store. All layers come side by side, each in one pass
//! from the socket to its EROFS file.
//!
//! ```text
//! pull ── worker: manifest, configuration ── checked ── a job for each layer ── all there ── commit
//!                                                        │
//!            worker: socket ─► channel ─► thread: digests, inflate, tar, EROFS ─► staged ─► kept
//! ```
//! - Each pull has a [worker](crate::worker) of its own, which jobs have too that others wait for.
//! - A layer that is wanted by several pulls comes once: they wait for the same job.
//! - Each pull has asked for the manifest by its own credentials before it waits for others' layers.
//! - A job ends when the last pull that waits for it goes.
//! - A pull tries a layer itself if the job of another pull failed by its servers, credentials or worker.
//! - Content that is not the layer's is asked for once more, and of another server if there is one.
//! - A thread that converts has its place among those until it has ended, also when it is given up.
//!
//! Layers are known by their content, as in containerd. Who can write a manifest that names a
//! private layer by its digests can use it where it has been pulled before.

mod feed;
mod jobs;
mod progress;

mod refusal;

use std::sync::Arc;

use futures::future::try_join_all;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use crate::credentials::AuthConfig;
use crate::digest::Digest;
use crate::hosts::Hosts;
use crate::manifest::Platform;
use crate::reference::Reference;
use crate::registry::{self, Checked, Patience};
use crate::store::{Image, Lease, NewImage, Store, StoreError};
use crate::text::{chain, line};
use crate::worker::words::{self, Failure, FailureKind, Resolve, Told, Wanted};
use crate::worker::{Call, Launcher, Worker, WorkerError};
use jobs::{Job, Jobs};
pub use progress::{LayerProgress, Progress};
pub use refusal::Refusal;

/// Most layers that are converted at a time: each has a thread, its buffers, and its tree.
const AT_A_TIME: usize = 8;

/// Most that is told of what a reference means: warnings about 64 servers, and a few documents.
const MAX_TOLD: usize = 1024;

/// Most characters of what is said of a task that has ended.
const MAX_WORDS: usize = 200;

/// Why an image did not come. The text has all causes.
#[derive(Debug, Clone, thiserror::Error)]
#[error("pulling image {image}: {cause}")]
pub struct PullError {
    /// The image, as people write it.
    pub image: String,
    /// Why.
    pub cause: Cause,
}

/// Why an image did not come. Several pulls may have it from one job.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Cause {
    /// The registry did not give it.
    #[error("{0}")]
    Registry(Refusal),
    /// A layer can't be used.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// The layer's digest.
        layer: Digest,
        /// Why, with all causes.
        reason: String,
        /// Whether there was no room for it.
        full: bool,
    },
    /// The process that was to bring it did not.
    #[error("{0}")]
    Worker(WorkerError),
    /// The store can't keep it.
    #[error("{}", chain(&**.0))]
    Store(Arc<StoreError>),
    /// A task of the pull ended by itself: the daemon ends, or there is a mistake in it.
    #[error("given up: {0}")]
    Stopped(String),
}

impl PullError {
    /// Whether the registry can't be reached or is in trouble, so that asking later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(&self.cause, Cause::Registry(refusal) if refusal.is_unavailable())
    }
}

impl Cause {
    /// Whether another pull of the same layer may have more luck: it has its own credentials,
    /// servers and worker, but the same content and the same disk.
    fn is_of_asker(&self) -> bool {
        matches!(self, Self::Registry(_) | Self::Worker(_))
    }

    /// Why a worker has not made a layer.
    fn of_layer(layer: &Digest, failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Registry(_) | FailureKind::Content => {
                Self::Registry(Refusal::new(failure))
            }
            kind => {
                let (layer, full) = (layer.clone(), kind == FailureKind::Full);
                Self::Layer { layer, reason: failure.text, full }
            }
        }
    }
}

impl Cause {
    /// Whether the store's disk has no room.
    fn is_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_full(),
            Self::Layer { full, .. } => *full,
            Self::Registry(_) | Self::Worker(_) | Self::Stopped(_) => false,
        }
    }
}

impl Cause {
    /// A task that ended by itself: the daemon's end, or a mistake, whose words may be a stranger's.
    fn stopped(error: &JoinError) -> Self {
        Self::Stopped(line(&error.to_string(), MAX_WORDS))
    }
}

impl From<WorkerError> for Cause {
    fn from(error: WorkerError) -> Self {
        Self::Worker(error)
    }
}

impl From<StoreError> for Cause {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Pulls images into a store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Puller {
    store: Store,
    hosts: Hosts,
    launcher: Launcher,
    patience: Patience,
    platform: Platform,
    jobs: Arc<Jobs>,
    slots: Arc<Semaphore>,
}

/// What a job needs of a pull.
#[derive(Debug, Clone)]
struct Pull {
    worker: Arc<Worker>,
    store: Store,
    slots: Arc<Semaphore>,
}

impl Puller {
    /// Pulls into `store` what `hosts` says where to find, each by a worker of its own.
    pub fn new(store: Store, hosts: Hosts, launcher: Launcher) -> Self {
        let slots = Arc::new(Semaphore::new(AT_A_TIME));
        let (platform, jobs) = (Platform::guest(), Arc::default());
        let patience = Patience::default();
        Self { store, hosts, launcher, patience, platform, jobs, slots }
    }

    /// The same with another patience.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Brings an image here, and calls it by the reference's tag and its digest. What is here
    /// already does not come again.
    ///
    /// # Errors
    /// [`PullError`]. Layers that came stay for the next try.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: Option<AuthConfig>,
    ) -> Result<Arc<Image>, PullError> {
        self.pull_watched(reference, auth, &Progress::default()).await
    }

    /// The same, and `progress` tells meanwhile how far it is.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub async fn pull_watched(
        &self,
        reference: &Reference,
        auth: Option<AuthConfig>,
        progress: &Progress,
    ) -> Result<Arc<Image>, PullError> {
        let pulled = self.bring(reference, auth, progress).await;
        self.tidy(pulled.as_ref().err());
        pulled.map_err(|cause| PullError { image: reference.familiar(), cause })
    }

    /// Sees to it that what came is on the disk, or that what a full disk has no room for is gone.
    /// Nobody waits for it.
    fn tidy(&self, cause: Option<&Cause>) {
        let store = self.store.clone();
        let full = cause.map(Cause::is_full);
        tokio::task::spawn_blocking(move || {
            let done = match full {
                None => store.settle().map(drop),
                Some(true) => store.collect(),
                Some(false) => Ok(()),
            };
            done.unwrap_or_else(|error| log::error!("image store: {error}"));
        });
    }

    async fn bring(
        &self,
        reference: &Reference,
        auth: Option<AuthConfig>,
        progress: &Progress,
    ) -> Result<Arc<Image>, Cause> {
        let worker = Worker::start(&self.launcher)?;
        let image = self.resolve(&worker, reference, auth).await?;
        let lease = Arc::new(self.store.lease());
        let (store, slots) = (self.store.clone(), Arc::clone(&self.slots));
        let pull = Pull { worker, store, slots };
        progress.begin(image.manifest.layers.iter().map(|layer| &layer.blob));
        let layers = image.manifest.layers.iter().zip(&image.config.diff_ids).enumerate();
        let (pull, lease) = (&pull, &lease);
        let layers = layers.map(|(number, (layer, diff_id))| async move {
            let wanted = Wanted { blob: layer.blob.clone(), diff_id: diff_id.clone() };
            let coming = |job: &Job| progress.comes(number, job.received());
            self.layer(pull, wanted, lease, coming).await?;
            progress.is_here(number);
            Ok::<_, Cause>(())
        });
        try_join_all(layers).await?;
        commit(reference, image, Arc::clone(lease)).await
    }

    /// What a reference means. All that the worker tells of it is checked.
    async fn resolve(
        &self,
        worker: &Arc<Worker>,
        reference: &Reference,
        auth: Option<AuthConfig>,
    ) -> Result<registry::Image, Cause> {
        let (hosts, patience) = (self.hosts.clone(), self.patience.clone());
        let resolve = Resolve { reference: reference.clone(), hosts, auth, patience };
        let job = words::Job::Resolve(Box::new(resolve));
        let mut call = worker.call(&job, &[]).await?;
        let mut checked = Checked::new(reference, &self.platform);
        let untrue = |error: registry::Untrue| WorkerError::Lie(error.to_string());
        for _ in 0..MAX_TOLD {
            match call.told().await?.map_err(|failure| Cause::Registry(Refusal::new(failure)))? {
                Told::Warning(warning) => log::warn!("{warning}"),
                Told::Document(words::Document { digest, content_type, body }) => {
                    checked.document(digest, content_type, body).map_err(untrue)?;
                }
                Told::Config(text) => return Ok(checked.config(text).map_err(untrue)?),
                told => return Err(Call::unexpected(&told).into()),
            }
        }
        Err(WorkerError::Lie("there is no end of what a name means".to_owned()).into())
    }

    /// Has a layer in the store, for the lease. `coming` is told by which job it comes.
    async fn layer(
        &self,
        pull: &Pull,
        wanted: Wanted,
        lease: &Lease,
        coming: impl Fn(&Job),
    ) -> Result<(), Cause> {
        // Each time another pull's job has failed, and that pull with it.
        loop {
            if lease.find(&wanted.diff_id) {
                return Ok(());
            }
            let start = |received| feed::layer(pull.clone(), wanted.clone(), received);
            let (job, own) = self.jobs.join(&wanted, start);
            coming(&job);
            match job.done().await {
                Ok(of_job) => {
                    // The commit says so if it is lost again.
                    lease.find(&wanted.diff_id);
                    drop(of_job);
                    return Ok(());
                }
                Err(cause) if own || !cause.is_of_asker() => return Err(cause),
                Err(_) => {}
            }
        }
    }
}

/// Adds the image whose layers the lease has.
async fn commit(
    reference: &Reference,
    image: registry::Image,
    lease: Arc<Lease>,
) -> Result<Arc<Image>, Cause> {
    let mut names = vec![reference.with_digest(image.digest.clone())];
    if reference.digest().is_none() {
        names.push(reference.clone());
    }
    let committed = tokio::task::spawn_blocking(move || {
        let (config, manifest) = (&*image.config_text, &image.manifest);
        lease.commit(&NewImage { config, manifest, names: &names, pinned: false })
    });
    Ok(committed.await.map_err(|error| Cause::stopped(&error))??)
}

#[cfg(test)]
mod tests;
