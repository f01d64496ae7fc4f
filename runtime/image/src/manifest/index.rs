//! An index: the images of one name for several platforms.

use oci_spec::image::{Descriptor, ImageIndex};
use serde::Deserialize;

use super::media::{self, Kind};
use super::platform::Platform;
use super::{Blob, MAX_ENTRIES, MAX_MANIFEST_BYTES, ManifestError, json, too_many};
use crate::text::line;

/// Docker's mark of a manifest that tells about another one.
const KIND_OF_REFERENCE: &str = "vnd.docker.reference.type";

/// Most platforms that an error names, and most characters of one.
const NAMED: usize = 10;
const MAX_NAME: usize = 40;

/// The images that a registry has under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// An entry that nobody chooses need not be right.
    blob: Result<Blob, ManifestError>,
    kind: Kind,
    platform: Option<Platform>,
}

/// What to ask the registry for next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The document.
    pub blob: Blob,
    /// A manifest, or a further index: see [`super::MAX_INDEX_DEPTH`].
    pub kind: Kind,
    /// Whether the index names the platform. If not, the image's configuration decides whether it
    /// runs here.
    pub platform_is_named: bool,
}

/// What `oci-spec` does not read of an index: it looks for other keys (0.10, `os_features`).
#[derive(Deserialize)]
struct Dotted {
    manifests: Vec<DottedEntry>,
}

#[derive(Deserialize)]
struct DottedEntry {
    platform: Option<DottedPlatform>,
}

#[derive(Deserialize)]
struct DottedPlatform {
    #[serde(rename = "os.features")]
    features: Option<Vec<String>>,
}

impl Index {
    pub(super) fn new(body: &[u8], index: &ImageIndex) -> Result<Self, ManifestError> {
        too_many("entries in the index", index.manifests().len(), MAX_ENTRIES)?;
        let dotted: Dotted = json("index", body)?;
        let mut entries = Vec::new();
        for (descriptor, dotted) in index.manifests().iter().zip(dotted.manifests) {
            let features = dotted.platform.and_then(|platform| platform.features);
            entries.extend(entry(descriptor, features.unwrap_or_default()));
        }
        Ok(Self { entries })
    }

    /// The image that runs best on a platform. Among equals the first one is chosen. One whose
    /// platform the index does not name comes last.
    ///
    /// # Errors
    /// [`ManifestError::NoPlatform`] names the platforms that there are. Other errors say what is
    /// wrong with the chosen entry.
    pub fn choose(&self, platform: &Platform) -> Result<Choice, ManifestError> {
        let rank = |entry: &&Entry| match &entry.platform {
            Some(offered) => platform.runs(offered),
            None => Some(usize::MAX),
        };
        let ranked = self.entries.iter().filter_map(|entry| Some((rank(&entry)?, entry)));
        let best = ranked.min_by_key(|(rank, _)| *rank);
        let (_, entry) = best.ok_or_else(|| ManifestError::NoPlatform {
            wanted: platform.to_string(),
            offered: self.offered(),
        })?;
        let platform_is_named = entry.platform.is_some();
        Ok(Choice { blob: entry.blob.clone()?, kind: entry.kind, platform_is_named })
    }

    fn offered(&self) -> String {
        let mut names: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| Some(entry.platform.as_ref()?.to_string()))
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return "the index names no image".to_owned();
        }
        let shown: Vec<_> = names.iter().take(NAMED).map(|name| line(name, MAX_NAME)).collect();
        let more = match names.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("the index has {}{more}", shown.join(", "))
    }
}

/// What an index names there, unless it is no image.
fn entry(descriptor: &Descriptor, features: Vec<String>) -> Option<Entry> {
    let kind = media::kind(descriptor.media_type().as_ref())?;
    let notes = descriptor.annotations().as_ref();
    let about_another = notes.is_some_and(|notes| notes.contains_key(KIND_OF_REFERENCE));
    let platform = descriptor.platform().as_ref().map(|platform| {
        let variant = platform.variant().as_deref().unwrap_or_default();
        let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
        Platform::new(&os, &architecture, variant).with_features(features)
    });
    let no_image = platform.as_ref().is_some_and(Platform::is_unknown);
    if about_another || no_image || kind == Kind::Schema1 {
        return None;
    }
    let blob = Blob::new("manifest in the index", descriptor, MAX_MANIFEST_BYTES);
    Some(Entry { blob, kind, platform })
}
