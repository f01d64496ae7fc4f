//! What a registry answers about an image:
//!
//! - an index of the platforms that it is for;
//! - one platform's manifest;
//! - its configuration.
//!
//! Their forms are those of the OCI image specification v1.1, and of Docker's "Image Manifest V 2,
//! Schema 2".
//!
//! All of it is a stranger's. A manifest that is accepted has a bounded number of layers, each
//! with a digest that can be checked, a size, and a compression. This module is pure.

mod config;
mod document;
mod index;
mod media;
mod platform;

use oci_spec::image::{Descriptor, ImageManifest};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};
use crate::text::{line, quoted};

pub use config::ImageConfig;
pub use document::Document;
pub use index::{Choice, Index};
pub use media::{Compression, Kind, LayerProblem};
pub use platform::Platform;

/// Most bytes of an index or a manifest: what the distribution specification lets registries
/// refuse to take.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Most bytes of an image's configuration, as in containers/image.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Most layers: Linux' overlay stacks no more.
pub const MAX_LAYERS: usize = 500;

/// Most entries of an index.
pub const MAX_ENTRIES: usize = 4096;

/// How often an index may name another one before the manifest.
pub const MAX_INDEX_DEPTH: usize = 4;

/// The header `Accept` of a request for a manifest.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Most characters of a JSON library's words.
const MAX_WORDS: usize = 300;

/// An answer that no image can be made of. Texts are short, and harmless to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A document beyond its limit, which was not read.
    #[error("the {what} has {size} bytes, and at most {limit} are read")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not the JSON that it should be.
    #[error("the {what} is not valid: {reason}")]
    Json {
        /// Which document.
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// Docker's format of before 2016, which names no content that could be checked.
    #[error(
        "the image is in Docker's old format \"schema 1\", which is not supported: push it again \
         with a tool of today"
    )]
    Schema1,
    /// Neither an index nor a manifest, or both.
    #[error("the registry's answer {0}")]
    Document(String),
    /// A manifest of something else.
    #[error("this is no container image: its configuration is of type {0}")]
    NotAnImage(String),
    /// A layer that can't be used.
    #[error("layer {number} of the manifest: {problem}")]
    Layer {
        /// Its place, from 1 on.
        number: usize,
        /// Why not.
        problem: LayerProblem,
    },
    /// A digest that can't be checked.
    #[error("{what}")]
    Digest {
        /// Whose.
        what: &'static str,
        /// What is wrong with it.
        source: DigestError,
    },
    /// More than can be.
    #[error("there are {found} {what}, and at most {limit} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The layers are larger than any disk.
    #[error("the layers' sizes add up to more than 2^63 bytes")]
    Size,
    /// The image is not for this platform.
    #[error("there is no image for {wanted}: {offered}")]
    NoPlatform {
        /// The platform that was looked for.
        wanted: String,
        /// Those that there are.
        offered: String,
    },
    /// Manifest and configuration are not of the same image.
    #[error("the manifest has {layers} layers, and its configuration has {diff_ids}")]
    DiffIds {
        /// Layers of the manifest.
        layers: usize,
        /// Layers of the configuration.
        diff_ids: usize,
    },
}

/// Content to ask a registry for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Blob {
    fn new(what: &'static str, descriptor: &Descriptor, limit: u64) -> Result<Self, ManifestError> {
        let size = descriptor.size();
        if size > limit {
            return Err(ManifestError::TooLarge { what, size, limit });
        }
        let digest = descriptor.digest().as_ref().parse();
        let digest = digest.map_err(|source| ManifestError::Digest { what, source })?;
        Ok(Self { digest, size })
    }
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The compressed content.
    pub blob: Blob,
    /// How it is compressed.
    pub compression: Compression,
}

/// The contents that make an image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The configuration.
    pub config: Blob,
    /// The layers, the lowest one first. One content may be more than one layer.
    pub layers: Vec<Layer>,
    /// The sum of all sizes in bytes, below 2^63.
    pub size: u64,
}

impl Manifest {
    fn new(manifest: &ImageManifest) -> Result<Self, ManifestError> {
        let config = manifest.config().media_type().as_ref();
        if !media::is_config(config) {
            return Err(ManifestError::NotAnImage(quoted(config)));
        }
        let config = Blob::new("configuration", manifest.config(), MAX_CONFIG_BYTES)?;
        too_many("layers", manifest.layers().len(), MAX_LAYERS)?;
        let layer = |(index, descriptor): (usize, &Descriptor)| {
            let problem = |problem| ManifestError::Layer { number: index + 1, problem };
            let urls = descriptor.urls().as_ref().is_some_and(|urls| !urls.is_empty());
            let media_type = descriptor.media_type().as_ref();
            let compression = media::compression(media_type, urls).map_err(problem)?;
            Ok(Layer {
                blob: Blob::new("layer", descriptor, i64::MAX.unsigned_abs())?,
                compression,
            })
        };
        let layers: Vec<_> =
            manifest.layers().iter().enumerate().map(layer).collect::<Result<_, _>>()?;
        let mut sizes = layers.iter().map(|layer: &Layer| layer.blob.size);
        let sum = sizes.try_fold(config.size, u64::checked_add);
        let size = sum.filter(|sum| i64::try_from(*sum).is_ok()).ok_or(ManifestError::Size)?;
        Ok(Self { config, layers, size })
    }
}

fn bounded(what: &'static str, body: &[u8], limit: u64) -> Result<(), ManifestError> {
    match body.len() as u64 {
        size if size > limit => Err(ManifestError::TooLarge { what, size, limit }),
        _ => Ok(()),
    }
}

fn too_many(what: &'static str, found: usize, limit: usize) -> Result<(), ManifestError> {
    if found > limit { Err(ManifestError::TooMany { what, found, limit }) } else { Ok(()) }
}

fn json<'de, T: Deserialize<'de>>(what: &'static str, body: &'de [u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(body).map_err(|error| {
        // Nothing in these documents is secret.
        ManifestError::Json { what, reason: line(&error.to_string(), MAX_WORDS) }
    })
}

#[cfg(test)]
mod tests;
