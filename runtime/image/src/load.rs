//! Images out of an archive, which a [worker](crate::worker) reads.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::archive::MAX_IMAGES;
use crate::manifest::ImageConfig;
use crate::store::{Image, Lease, NewImage, Staged, Store, StoreError};
use crate::worker::words::{Failure, Found, Job, Told, Wanted};
use crate::worker::{Call, Launcher, Worker, WorkerError};

/// Most bytes of the configurations of an archive's images together.
const MAX_CONFIGS: usize = 64 << 20;

/// Images that did not come.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There are none, or they can't be used: all causes in one line.
    #[error("{0}")]
    Archive(String),
    /// The process that was to read it did not.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The store can't keep them.
    #[error("keeping an image of the archive")]
    Store(#[from] StoreError),
    /// The daemon ends.
    #[error("given up: {0}")]
    Stopped(String),
}

impl From<Failure> for LoadError {
    fn from(failure: Failure) -> Self {
        Self::Archive(failure.text)
    }
}

/// What is known of an image before its layers come.
struct Coming {
    found: Found,
    config_text: Vec<u8>,
    config: ImageConfig,
}

/// Adds the images of a stream, which may be compressed. Names that other images had move to them.
/// It is given up when the future is dropped.
///
/// # Errors
/// [`LoadError`]. Images before the one that failed are there.
pub async fn load(
    store: &Store,
    launcher: &Launcher,
    stream: BorrowedFd<'_>,
) -> Result<Vec<Arc<Image>>, LoadError> {
    let worker = Worker::start(launcher)?;
    let kept = stage(store).await?;
    let mut call = worker.call(&Job::Open, &[stream, kept.file().as_fd()]).await?;
    let mut coming: Vec<Coming> = Vec::new();
    let mut bytes = 0;
    loop {
        match call.told().await?? {
            Told::Done => break,
            Told::Found(found) => {
                let Told::Config(config_text) = call.told().await?? else {
                    return Err(WorkerError::Lie("an image has no configuration".into()).into());
                };
                bytes += config_text.len();
                if coming.len() >= MAX_IMAGES || bytes > MAX_CONFIGS {
                    let limit = format!("of {MAX_IMAGES}, or {MAX_CONFIGS} bytes");
                    return Err(LoadError::Archive(format!(
                        "the archive has images beyond {limit}"
                    )));
                }
                let config = ImageConfig::parse(&config_text, &found.manifest)
                    .map_err(|error| WorkerError::Lie(error.to_string()))?;
                coming.push(Coming { found: *found, config_text, config });
            }
            told => return Err(Call::unexpected(&told).into()),
        }
    }
    drop(call);
    let lease = Arc::new(store.lease());
    let mut images = Vec::new();
    for one in coming {
        images.push(add(store, &lease, &worker, one).await?);
    }
    Ok(images)
}

/// Adds an image once all its layers are there.
async fn add(
    store: &Store,
    lease: &Arc<Lease>,
    worker: &Arc<Worker>,
    coming: Coming,
) -> Result<Arc<Image>, LoadError> {
    let Coming { found, config_text, config } = coming;
    let layers = found.manifest.layers.iter().zip(config.diff_ids).zip(&found.layers);
    for ((layer, diff_id), path) in layers {
        if lease.find(&diff_id) {
            continue;
        }
        let staged = stage(store).await?;
        let wanted = Wanted { blob: layer.blob.clone(), diff_id: diff_id.clone() };
        let job = Job::Entry(path.clone(), wanted);
        let mut call = worker.call(&job, &[staged.file().as_fd()]).await?;
        match call.told().await?? {
            Told::Done => {}
            told => return Err(Call::unexpected(&told).into()),
        }
        let lease = Arc::clone(lease);
        blocking(move || lease.keep(staged, &diff_id)).await?;
    }
    let lease = Arc::clone(lease);
    blocking(move || {
        let (config, manifest) = (config_text.as_slice(), &found.manifest);
        lease.commit(&NewImage { config, manifest, names: &found.names, pinned: false })
    })
    .await
}

async fn stage(store: &Store) -> Result<Staged, LoadError> {
    let store = store.clone();
    blocking(move || store.stage()).await
}

/// Waits for the disk on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, LoadError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| LoadError::Stopped(error.to_string()))??)
}
