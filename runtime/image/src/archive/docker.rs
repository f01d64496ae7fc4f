//! The archives of `docker save` (moby, `image/spec/spec.md`), from before it wrote OCI layouts.

use serde::Deserialize;

use super::{ArchiveError, Contents, Found, MAX_IMAGES, checked, digest_of};
use crate::digest::Digest;
use crate::manifest::{
    Blob, Compression, ImageConfig, Layer, MAX_LAYERS, Manifest, ManifestError, Platform,
};
use crate::reference::Reference;
use crate::text::{line, quoted};

/// The file that names the images.
pub(super) const MANIFEST: &str = "manifest.json";

/// Most characters of a parser's words.
const MAX_WORDS: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The images of an archive.
pub(super) fn images(contents: &Contents, platform: &Platform) -> Result<Vec<Found>, ArchiveError> {
    let text = contents.small(MANIFEST)?;
    let images: Vec<RawImage> = serde_json::from_slice(&text).map_err(|error| {
        let reason = line(&error.to_string(), MAX_WORDS);
        ArchiveError::Text { path: MANIFEST.to_owned(), reason }
    })?;
    if images.len() > MAX_IMAGES {
        return Err(ArchiveError::TooMany { what: "images", limit: MAX_IMAGES as u64 });
    }
    images.into_iter().map(|image| found(contents, platform, image)).collect()
}

fn found(contents: &Contents, platform: &Platform, image: RawImage) -> Result<Found, ArchiveError> {
    let RawImage { config: path, repo_tags, layers: paths } = image;
    let (tags, paths) = (repo_tags.unwrap_or_default(), paths.unwrap_or_default());
    let shown = tags.first().map_or_else(|| quoted(&path), |tag| quoted(tag));
    let failed = |source| ArchiveError::Manifest { image: shown.clone(), source };
    if paths.len() > MAX_LAYERS {
        let (what, found) = ("layers", paths.len());
        return Err(failed(ManifestError::TooMany { what, found, limit: MAX_LAYERS }));
    }
    let (digest, config_text) = match promised(&path) {
        Some(digest) => (digest.clone(), checked(contents, &path, &digest)?),
        None => {
            let text = contents.small(&path)?;
            (Digest::of(&text), text)
        }
    };
    let config = Blob { digest, size: config_text.len() as u64 };
    // The configuration says what the layers are; only their sizes come from elsewhere.
    let empty = |_: &String| Layer { blob: config.clone(), compression: Compression::ByContent };
    let mut manifest =
        Manifest { config: config.clone(), layers: paths.iter().map(empty).collect(), size: 0 };
    let parsed = ImageConfig::parse(&config_text, &manifest).map_err(failed)?;
    if platform.runs(&parsed.platform).is_none() {
        let offered = format!("it is for {}", line(&parsed.platform.to_string(), 40));
        let wanted = platform.to_string();
        return Err(failed(ManifestError::NoPlatform { wanted, offered }));
    }
    let layers = manifest.layers.iter_mut().zip(&paths).zip(&parsed.diff_ids);
    for ((layer, path), diff_id) in layers {
        layer.blob = blob(contents, path, diff_id)?;
    }
    let mut sizes = manifest.layers.iter().map(|layer| layer.blob.size);
    let sum = sizes.try_fold(config.size, u64::checked_add);
    manifest.size = sum.ok_or_else(|| failed(ManifestError::Size))?;
    let names = tags.iter().map(|tag| tag.parse::<Reference>()).collect::<Result<_, _>>()?;
    Ok(Found { names, manifest, config_text, config: parsed, layers: paths })
}

/// The digest that a file's name promises: `HEX.json` of old, or a blob of a layout.
fn promised(path: &str) -> Option<Digest> {
    let last = path.rsplit('/').next()?;
    format!("sha256:{}", last.strip_suffix(".json").unwrap_or(last)).parse().ok()
}

/// A layer: it is its own archive, or compressed.
fn blob(contents: &Contents, path: &str, diff_id: &Digest) -> Result<Blob, ArchiveError> {
    let mut part = contents.open(path)?;
    let size = part.left();
    let compressed = super::spool::is_compressed(&mut part);
    let failed = |source| ArchiveError::Read { what: quoted(path), source };
    let digest = match compressed.map_err(failed)? {
        true => digest_of(contents, path)?,
        false => diff_id.clone(),
    };
    Ok(Blob { digest, size })
}
