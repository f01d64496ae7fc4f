//! Media types: which document it is, and how a layer is compressed (containerd's
//! `core/images/mediatypes.go`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::quoted;

/// A kind of document that names the parts of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Names manifests, or further indexes.
    Index,
    /// Names a configuration and layers.
    Manifest,
    /// Docker's format of before 2016.
    Schema1,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Index => "an index",
            Self::Manifest => "a manifest",
            Self::Schema1 => "a manifest of schema 1",
        })
    }
}

/// The document of a media type, whose parameters do not count. None: the type tells nothing, as
/// that of a registry that serves all JSON alike.
pub(super) fn kind(media_type: &str) -> Option<Kind> {
    let bare = media_type.split(';').next().unwrap_or_default().trim();
    match bare.to_ascii_lowercase().as_str() {
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Some(Kind::Index),
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Some(Kind::Manifest),
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Some(Kind::Schema1),
        _ => None,
    }
}

/// Whether a configuration of that type is a container image's. Early registries gave Docker's a
/// type without meaning (docker/distribution#1622).
pub(super) fn is_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json"
            | "application/octet-stream"
    )
}

/// How a layer's tar archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// By Zstandard. Frames that are to be skipped, as of `zstd:chunked`, are a part of it.
    Zstd,
    /// The type does not tell: some tools gave Docker's plain type to compressed layers. The first
    /// bytes tell.
    ByContent,
}

/// Why a layer can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerProblem {
    /// The registry does not have it.
    #[error("a layer of type {0} is not distributed by the registry, but by others")]
    Foreign(String),
    /// It needs a key.
    #[error("a layer of type {0} is encrypted, which is not supported")]
    Encrypted(String),
    /// Another type.
    #[error("a layer of type {0} is not supported: tar archives are, with gzip, zstd or neither")]
    Unsupported(String),
}

/// How a layer of that type is compressed. `urls`: whether it is said to lie elsewhere.
pub(super) fn compression(media_type: &str, urls: bool) -> Result<Compression, LayerProblem> {
    let shown = || quoted(media_type);
    let (base, suffix) = media_type.split_once('+').unwrap_or((media_type, ""));
    if suffix.split('+').any(|part| part == "encrypted") {
        return Err(LayerProblem::Encrypted(shown()));
    }
    let foreign = base.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || base.starts_with("application/vnd.docker.image.rootfs.foreign.");
    // Without addresses it is in the registry: somebody pushed it in spite of its type.
    if foreign && urls {
        return Err(LayerProblem::Foreign(shown()));
    }
    match (base, suffix) {
        (
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar",
            suffix,
        ) => match suffix {
            "" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            _ => Err(LayerProblem::Unsupported(shown())),
        },
        (
            "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar",
            "",
        ) => Ok(Compression::ByContent),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "",
        ) => Ok(Compression::Gzip),
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", "") => Ok(Compression::Zstd),
        _ => Err(LayerProblem::Unsupported(shown())),
    }
}
