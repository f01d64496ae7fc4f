//! What a registry answers when it is asked for a manifest: an index, or a manifest.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::index::Index;
use super::media::{self, Kind};
use super::{MAX_MANIFEST_BYTES, Manifest, ManifestError, bounded, json};
use crate::text::quoted;

/// What a registry answers when it is asked for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An index of images for several platforms.
    Index(Index),
    /// The manifest of one image.
    Manifest(Manifest),
}

/// What tells an index from a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Parses a registry's answer of the type that its header `Content-Type` tells.
    ///
    /// # Errors
    /// [`ManifestError`] also for a document that is an index to one reader and a manifest to
    /// another (CVE-2021-41190).
    pub fn parse(body: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        bounded("manifest", body, MAX_MANIFEST_BYTES)?;
        let announced = content_type.and_then(media::kind);
        if announced == Some(Kind::Schema1) {
            return Err(ManifestError::Schema1);
        }
        let shape: Shape = json("manifest", body)?;
        if shape.fs_layers.is_some() || shape.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        if shape.schema_version != Some(2) {
            return Err(ManifestError::Document("has no schemaVersion 2".to_owned()));
        }
        match shape.kind(announced)? {
            Kind::Index => Index::new(body, &json("index", body)?).map(Self::Index),
            _ => Manifest::new(&json("manifest", body)?).map(Self::Manifest),
        }
    }
}

impl Shape {
    /// Which of the two it is by what the registry announced, by its own type and by its content.
    /// All three must agree, as far as they say something.
    fn kind(&self, announced: Option<Kind>) -> Result<Kind, ManifestError> {
        let own = self.media_type.as_deref();
        let told = own.map(|own| {
            let unknown = || format!("is neither index nor manifest: its type is {}", quoted(own));
            media::kind(own).ok_or_else(|| ManifestError::Document(unknown()))
        });
        let content = match (&self.manifests, self.config.is_some() || self.layers.is_some()) {
            (Some(_), true) => {
                let both = "has the content of an index and of a manifest".to_owned();
                return Err(ManifestError::Document(both));
            }
            (Some(_), false) => Kind::Index,
            (None, true) => Kind::Manifest,
            (None, false) => {
                let neither = "has the content of neither an index nor a manifest".to_owned();
                return Err(ManifestError::Document(neither));
            }
        };
        let differs = |kind: &Kind| *kind != content;
        match [announced, told.transpose()?].into_iter().flatten().find(differs) {
            Some(Kind::Schema1) => Err(ManifestError::Schema1),
            Some(kind) => Err(ManifestError::Document(format!(
                "is announced as {kind}, and has the content of {content}"
            ))),
            None => Ok(content),
        }
    }
}
