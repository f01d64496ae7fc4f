//! Images out of files: OCI image layouts, as directories or tar archives, and the archives of
//! `docker save` of any age.
//!
//! ```text
//! stream ─► spool (a nameless part of the store's staging) ─┐
//! file ─────────────────────────────────────────────────────┼─► Contents ─► images ─► store
//! directory ────────────────────────────────────────────────┘
//! ```
//! All of it is a stranger's. Numbers, sizes and names are bounded, content is checked against its
//! digests, and nothing of the archive becomes a path on the host. Links in an archive are only
//! other names for what is in it. Links in a directory are refused.
//!
//! Everything here waits for the disk, so async code calls it on a thread for that.

mod contents;
mod docker;
mod layout;
mod spool;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use erofs::Options;

use crate::digest::{Algorithm, Digest, Hasher, Mismatch, Verifier};
use crate::layer::{self, Expected, LayerError};
use crate::manifest::{ImageConfig, Manifest, ManifestError, Platform};
use crate::reference::{Reference, ReferenceError};
use crate::store::{Image, Lease, NewImage, Store, StoreError};
use crate::text::quoted;

pub use contents::Contents;

/// Most images of an archive, counted by their names.
pub const MAX_IMAGES: usize = 256;

/// An archive that no images can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The system said no.
    #[error("reading {what}")]
    Read {
        /// What was read.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Not a tar archive.
    #[error("the archive is not valid at byte {at}: {reason}")]
    Tar {
        /// Where.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// More than is read.
    #[error("the archive has more {what} than {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// It names something that it does not have.
    #[error("the archive has no file {path}")]
    Missing {
        /// What it should have.
        path: String,
    },
    /// Neither layout nor `manifest.json`.
    #[error("the archive has no image: it has neither index.json nor manifest.json")]
    NoImage,
    /// A text that is not as it should be.
    #[error("{path}: {reason}")]
    Text {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A name that no image can have.
    #[error("a name in the archive")]
    Name(#[from] ReferenceError),
    /// An image that can't be used.
    #[error("image {image}")]
    Manifest {
        /// Which one.
        image: String,
        /// Why.
        source: ManifestError,
    },
    /// Content that is not what its name says.
    #[error("{path}")]
    Content {
        /// The file.
        path: String,
        /// What it is.
        source: Mismatch,
    },
    /// A layer that can't be used.
    #[error("layer {layer}")]
    Layer {
        /// The file.
        layer: String,
        /// Why.
        source: LayerError,
    },
    /// The store can't keep it.
    #[error("keeping an image of the archive")]
    Store(#[from] StoreError),
}

/// An image in an archive.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it is called there: tags, and `name@digest` where the archive has its manifest.
    pub names: Vec<Reference>,
    /// Its manifest: that of the archive, or what it would be.
    pub manifest: Manifest,
    /// The bytes of its configuration.
    pub config_text: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
    /// The files of its layers in the archive, the lowest one first.
    pub layers: Vec<String>,
}

/// What the images of an archive are that run on a platform. No layer is read as a whole, unless
/// it is compressed and the archive does not tell its digest.
///
/// # Errors
/// [`ArchiveError`] also if one of the images is not for the platform.
pub fn images(contents: &Contents, platform: &Platform) -> Result<Vec<Found>, ArchiveError> {
    let found = if contents.has(layout::INDEX) {
        layout::images(contents, platform)
    } else if contents.has(docker::MANIFEST) {
        docker::images(contents, platform)
    } else {
        Err(ArchiveError::NoImage)
    }?;
    if found.is_empty() { Err(ArchiveError::NoImage) } else { Ok(found) }
}

/// Adds the images of an archive. Names that other images had move to them.
///
/// # Errors
/// [`ArchiveError`]. Images before the one that failed are there.
pub fn import(store: &Store, contents: &Contents) -> Result<Vec<Arc<Image>>, ArchiveError> {
    let lease = store.lease();
    let found = images(contents, &Platform::guest())?;
    found.iter().map(|image| add(store, &lease, contents, image)).collect()
}

/// Adds the images of a directory, or of a file that may be compressed.
///
/// # Errors
/// As [`import`].
pub fn import_path(store: &Store, path: &Path) -> Result<Vec<Arc<Image>>, ArchiveError> {
    let failed = |source| ArchiveError::Read { what: quoted(&path.to_string_lossy()), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return import(store, &Contents::of_directory(file));
    }
    if spool::is_plain(&file).map_err(failed)? {
        return import(store, &Contents::of_file(&file)?);
    }
    import_stream(store, file)
}

/// Adds the images of a stream, which may be compressed. It is kept as a file as long as this
/// takes.
///
/// # Errors
/// As [`import`].
pub fn import_stream(store: &Store, stream: impl Read) -> Result<Vec<Arc<Image>>, ArchiveError> {
    let staged = store.stage()?;
    import(store, &kept(stream, staged.file())?)
}

/// The files of a stream, which `file` keeps.
pub(crate) fn kept(stream: impl Read, file: &File) -> Result<Contents, ArchiveError> {
    spool::fill(stream, file)?;
    Contents::of_file(file)
}

/// Makes the image of a layer.
pub(crate) fn convert(
    contents: &Contents,
    path: &str,
    expected: &Expected,
    file: &File,
) -> Result<(), ArchiveError> {
    let made = layer::convert(contents.open(path)?, expected, file, Options::default());
    made.map(drop).map_err(|source| ArchiveError::Layer { layer: quoted(path), source })
}

fn add(
    store: &Store,
    lease: &Lease,
    contents: &Contents,
    image: &Found,
) -> Result<Arc<Image>, ArchiveError> {
    let layers = image.manifest.layers.iter().zip(&image.config.diff_ids).zip(&image.layers);
    for ((layer, diff_id), path) in layers {
        if lease.find(diff_id) {
            continue;
        }
        let (digest, size) = (layer.blob.digest.clone(), layer.blob.size);
        let expected = Expected { digest, size, diff_id: Some(diff_id.clone()) };
        let staged = store.stage()?;
        convert(contents, path, &expected, staged.file())?;
        lease.keep(staged, diff_id)?;
    }
    let (config, manifest) = (image.config_text.as_slice(), &image.manifest);
    Ok(lease.commit(&NewImage { config, manifest, names: &image.names, pinned: false })?)
}

/// A small file, which must have this digest.
fn checked(contents: &Contents, path: &str, digest: &Digest) -> Result<Vec<u8>, ArchiveError> {
    let bytes = contents.small(path)?;
    let mut verifier = Verifier::new(digest.clone(), None);
    let checked = verifier.update(&bytes).and_then(|()| verifier.finish());
    checked.map_err(|source| ArchiveError::Content { path: quoted(path), source })?;
    Ok(bytes)
}

/// The digest of a file.
fn digest_of(contents: &Contents, path: &str) -> Result<Digest, ArchiveError> {
    let mut source = contents.open(path)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = source.read(&mut buffer);
        match read.map_err(|source| ArchiveError::Read { what: quoted(path), source })? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests;
