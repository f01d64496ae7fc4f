//! An image that is here, and one that is to be added.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::error::StoreError;
use crate::digest::{Digest, Hasher};
use crate::manifest::{ImageConfig, Manifest, ManifestError, Platform};
use crate::reference::Reference;

/// Most names of one image, tags and digests together.
pub const MAX_NAMES: usize = 1024;

/// Most bytes of the user in an image's configuration: two names of Linux' longest, and more.
pub const MAX_USER: u64 = 1024;

/// An image, as it was when the [`super::View`] was made.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its configuration: its only id everywhere.
    pub id: Digest,
    /// Its tags. An image that all tags moved away from has none.
    pub tags: Vec<Reference>,
    /// The manifests that it was pulled by, as `name@digest`.
    pub digests: Vec<Reference>,
    /// Its layers, the lowest one first.
    pub layers: Vec<ImageLayer>,
    /// What it is for.
    pub platform: Platform,
    /// Who runs it, as its configuration says: a name or number, perhaps with a group after `:`.
    pub user: String,
    /// Whether it is to stay when nothing uses it.
    pub pinned: bool,
    /// When it was first added here.
    pub created: SystemTime,
    /// Bytes of its layers' files and its configuration. A layer that is twice in it counts once.
    pub size: u64,
    pub(super) used: Arc<AtomicU64>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// The digest of its tar archive.
    pub diff_id: Digest,
    /// Bytes of its file.
    pub size: u64,
    /// Bytes that were pulled for it.
    pub compressed: u64,
}

impl Image {
    /// Whether this is the new image, with all that it should be.
    pub(super) fn is(&self, new: &NewImage<'_>) -> bool {
        let named = |name: &Reference| self.tags.contains(name) || self.digests.contains(name);
        self.id == new.manifest.config.digest
            && self.pinned >= new.pinned
            && new.names.iter().all(named)
    }

    /// When it was last added or held. Exact to a second, and for a crash of the daemon only as
    /// new as the last change of the store.
    pub fn used(&self) -> SystemTime {
        time(self.used.load(Ordering::Relaxed))
    }
}

/// An image to add. Its texts are a stranger's.
#[derive(Debug, Clone, Copy)]
pub struct NewImage<'a> {
    /// The configuration's bytes.
    pub config: &'a [u8],
    /// The manifest that names it.
    pub manifest: &'a Manifest,
    /// What the image is called from now on: tags, and `name@digest` of manifest or index.
    pub names: &'a [Reference],
    /// Whether it is to stay when nothing uses it. An image stays pinned that was.
    pub pinned: bool,
}

/// What is known of a new image once it is checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) id: Digest,
    /// Each layer and the bytes that were pulled for it.
    pub(super) layers: Vec<(Digest, u64)>,
    pub(super) platform: String,
    pub(super) user: String,
}

impl Checked {
    pub(super) fn new(new: &NewImage<'_>) -> Result<Self, StoreError> {
        let config = ImageConfig::parse(new.config, new.manifest)?;
        let expected = new.manifest.config.digest.clone();
        let mut hasher = Hasher::new(expected.algorithm());
        hasher.update(new.config);
        let found = hasher.finish();
        if found != expected {
            return Err(StoreError::Configuration { expected, found });
        }
        let run = config.oci.config().as_ref();
        let user = run.and_then(|run| run.user().clone()).unwrap_or_default();
        let size = user.len() as u64;
        if size > MAX_USER {
            let what = "user in the configuration";
            return Err(ManifestError::TooLarge { what, size, limit: MAX_USER }.into());
        }
        let sizes = new.manifest.layers.iter().map(|layer| layer.blob.size);
        let layers = config.diff_ids.into_iter().zip(sizes).collect();
        Ok(Self { id: expected, layers, platform: config.platform.to_string(), user })
    }
}

/// A platform from the words that it shows itself by.
pub(super) fn platform(text: &str) -> Platform {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Platform::new(&part(), &part(), &part())
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(super) fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
