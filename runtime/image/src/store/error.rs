//! What goes wrong in the store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::reference::ReferenceError;

/// A failure of the image store. Texts of strangers in it are short and harmless.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon runs on the same store.
    #[error(
        "another daemon uses the image store {}: stop it, or give this one another directory",
        path.display()
    )]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// A later version of this program wrote the store. Nothing of it was changed.
    #[error(
        "the image store {} is of version {found}, and this program knows versions up to {known}: \
         start the newer program, or move the directory away and pull the images again",
        path.display()
    )]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version that is known here.
        known: u64,
    },
    /// The database is not what this program writes. Nothing of it was changed.
    #[error(
        "the image store's database {} can't be read ({reason}): bring it back from a copy, or \
         move the store's directory away and pull the images again",
        path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel refused something. [`StoreError::is_full`] tells whether for want of room.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The database refused something: also for want of room.
    #[error("{doing} in the image store's database {}", path.display())]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// Its reason.
        source: Box<redb::Error>,
    },
    /// There is no such image.
    #[error("there is no image {name} here")]
    NotFound {
        /// The name or id, as it was asked for, quoted and short.
        name: String,
    },
    /// A short id that several images begin with.
    #[error("{count} images have ids that begin with {prefix}: write more of its digits")]
    Ambiguous {
        /// The digits.
        prefix: String,
        /// How many images.
        count: usize,
    },
    /// An image was to be added before all of its layers were kept.
    #[error("image {id} can't be added: its layer {layer} is not here")]
    NoLayer {
        /// The image.
        id: Digest,
        /// The layer.
        layer: Digest,
    },
    /// More names of one image than are kept.
    #[error("image {id} would have {found} names, and at most {limit} are kept")]
    TooManyNames {
        /// The image.
        id: Digest,
        /// How many it would have.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The configuration is not the one that the manifest names.
    #[error("the configuration hashes to {found}, and the manifest names {expected}")]
    Configuration {
        /// The name in the manifest.
        expected: Digest,
        /// The name that it should have.
        found: Digest,
    },
    /// The image can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The name can't be read.
    #[error(transparent)]
    Name(#[from] ReferenceError),
}

impl StoreError {
    /// Whether the disk, or the quota, is full.
    pub fn is_full(&self) -> bool {
        let full = |source: &io::Error| {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::Io { source, .. } => full(source),
            Self::Database { source, .. } => match source.as_ref() {
                redb::Error::Io(source) => full(source),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether there is no such image: for callers to whom a removal of nothing is a success.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// How long the last daemon may take to let go of the store: its end takes a moment, and so do
/// programs that it is just starting.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tries again for a while as long as another process has what is to be opened.
pub(super) fn patiently<T>(
    mut open: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let start = Instant::now();
    loop {
        match open() {
            Err(StoreError::InUse { .. }) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// What failed, and on which file.
pub(super) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}
