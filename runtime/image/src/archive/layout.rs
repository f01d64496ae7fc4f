//! OCI image layouts (OCI image specification v1.1, "image-layout.md").

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{ArchiveError, Contents, Found, MAX_IMAGES, checked};
use crate::digest::Digest;
use crate::manifest::{Document, ImageConfig, MAX_INDEX_DEPTH, ManifestError, Platform};
use crate::reference::Reference;
use crate::text::line;

/// The file that names the images.
pub(super) const INDEX: &str = "index.json";

/// Its kind, for the reader of registries' answers.
const KIND: &str = "application/vnd.oci.image.index.v1+json";

/// Most characters of a parser's words.
const MAX_WORDS: usize = 300;

/// What images are called: by containerd and Docker, and by the specification.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

#[derive(Deserialize)]
struct RawIndex {
    manifests: Vec<Value>,
}

/// The images of a layout.
pub(super) fn images(contents: &Contents, platform: &Platform) -> Result<Vec<Found>, ArchiveError> {
    let text = contents.small(INDEX)?;
    let index: RawIndex = serde_json::from_slice(&text).map_err(|error| invalid(&error))?;
    let mut groups: BTreeMap<Option<Reference>, Vec<Value>> = BTreeMap::new();
    for descriptor in index.manifests {
        groups.entry(name(&descriptor)?).or_default().push(descriptor);
    }
    if groups.len() > MAX_IMAGES {
        return Err(ArchiveError::TooMany { what: "images", limit: MAX_IMAGES as u64 });
    }
    let mut found = Vec::new();
    for (name, descriptors) in groups {
        let of_platforms = descriptors.iter().all(|one| one.get("platform").is_some());
        // Without a name, more than one are several images, unless they are for platforms.
        let parts = match name.is_some() || of_platforms {
            true => vec![descriptors],
            false => descriptors.into_iter().map(|one| vec![one]).collect(),
        };
        if parts.len() > MAX_IMAGES {
            return Err(ArchiveError::TooMany { what: "images", limit: MAX_IMAGES as u64 });
        }
        for part in parts {
            found.push(image(contents, platform, name.as_ref(), part)?);
        }
    }
    Ok(found)
}

fn invalid(error: &serde_json::Error) -> ArchiveError {
    let reason = line(&error.to_string(), MAX_WORDS);
    ArchiveError::Text { path: INDEX.to_owned(), reason }
}

/// What an image is called. The specification's name may be a tag alone, which says nothing here.
fn name(descriptor: &Value) -> Result<Option<Reference>, ArchiveError> {
    let notes = descriptor.get("annotations");
    let [own, standard] = NAMES.map(|key| notes?.get(key)?.as_str());
    match (own, standard) {
        (Some(own), _) => Ok(Some(own.parse()?)),
        (None, Some(name)) if name.contains(['/', ':']) => Ok(Some(name.parse()?)),
        (None, _) => Ok(None),
    }
}

/// The image that runs on a platform among those of one name.
fn image(
    contents: &Contents,
    platform: &Platform,
    name: Option<&Reference>,
    descriptors: Vec<Value>,
) -> Result<Found, ArchiveError> {
    let shown = name.map_or_else(|| "without a name".to_owned(), Reference::to_string);
    let failed = |source| ArchiveError::Manifest { image: shown.clone(), source };
    let index = serde_json::json!({"schemaVersion": 2, "manifests": descriptors});
    let mut document = Document::parse(index.to_string().as_bytes(), Some(KIND)).map_err(failed)?;
    let mut digest: Option<Digest> = None;
    let mut depth = 0;
    let mut named = false;
    let manifest = loop {
        let index = match document {
            Document::Manifest(manifest) => break manifest,
            Document::Index(index) => index,
        };
        if depth > MAX_INDEX_DEPTH {
            let (what, limit) = ("indexes that name each other", MAX_INDEX_DEPTH);
            return Err(failed(ManifestError::TooMany { what, found: depth, limit }));
        }
        let choice = index.choose(platform).map_err(failed)?;
        named |= choice.platform_is_named;
        let body = blob(contents, &choice.blob.digest)?;
        document = Document::parse(&body, None).map_err(failed)?;
        // What the layout itself names is what the image is called by.
        digest.get_or_insert(choice.blob.digest);
        depth += 1;
    };
    let config_text = blob(contents, &manifest.config.digest)?;
    let config = ImageConfig::parse(&config_text, &manifest).map_err(failed)?;
    if !named && platform.runs(&config.platform).is_none() {
        let offered = format!("it is for {}", line(&config.platform.to_string(), 40));
        let wanted = platform.to_string();
        return Err(failed(ManifestError::NoPlatform { wanted, offered }));
    }
    let layers = manifest.layers.iter().map(|layer| path(&layer.blob.digest)).collect();
    let by_digest = name.zip(digest).map(|(name, digest)| name.with_digest(digest));
    let mut names: Vec<_> = name.cloned().into_iter().chain(by_digest).collect();
    names.dedup();
    Ok(Found { names, manifest, config_text, config, layers })
}

fn blob(contents: &Contents, digest: &Digest) -> Result<Vec<u8>, ArchiveError> {
    checked(contents, &path(digest), digest)
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
