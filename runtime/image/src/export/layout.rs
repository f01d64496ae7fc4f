//! The documents of an archive: OCI's layout, and Docker's `manifest.json`.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::{Value, json};

use super::outer::Outer;
use super::{ExportError, Exported, Format};
use crate::digest::Digest;
use crate::reference::Reference;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Some content of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Blob {
    fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    /// Its file in the archive.
    pub(super) fn path(&self) -> String {
        format!("blobs/{}/{}", self.digest.algorithm().name(), self.digest.hex())
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": self.digest.as_str(), "size": self.size })
    }
}

/// An image without its layers' content.
#[derive(Debug)]
pub(super) struct Document {
    config: Vec<u8>,
    manifest: Vec<u8>,
    platform: Value,
    layers: Vec<Blob>,
    pub(super) exported: Exported,
}

impl Document {
    pub(super) fn new(
        platform: &str,
        (source, names): (&Digest, &[Reference]),
        config: Vec<u8>,
        layers: Vec<Blob>,
    ) -> Self {
        let described: Vec<_> = layers.iter().map(|layer| layer.descriptor(LAYER)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": Blob::of(&config).descriptor(CONFIG),
            "layers": described,
        });
        let id = Digest::of(&config);
        let exported = Exported { source: source.clone(), id, names: names.to_vec() };
        let (manifest, platform) =
            (manifest.to_string().into_bytes(), described_platform(platform));
        Self { config, manifest, platform, layers, exported }
    }

    /// What the index says of it: once for each name.
    fn in_index(&self) -> Vec<Value> {
        let plain = Blob::of(&self.manifest).descriptor(MANIFEST);
        let named = self.exported.names.iter().map(|name| {
            let mut one = plain.clone();
            one["platform"] = self.platform.clone();
            // containerd and Docker read the first, others the second.
            one["annotations"] = json!({
                "io.containerd.image.name": name.to_string(),
                "org.opencontainers.image.ref.name": name.tag().unwrap_or_default(),
            });
            one
        });
        let named: Vec<_> = named.collect();
        // Without a name, a platform would make it one of several variants of one image.
        if named.is_empty() { vec![plain] } else { named }
    }

    /// What Docker's file says of it.
    fn in_docker(&self) -> Value {
        let tags: Vec<_> = self.exported.names.iter().map(ToString::to_string).collect();
        let layers: Vec<_> = self.layers.iter().map(Blob::path).collect();
        json!({ "Config": Blob::of(&self.config).path(), "RepoTags": tags, "Layers": layers })
    }
}

fn described_platform(platform: &str) -> Value {
    let mut parts = platform.splitn(3, '/');
    let mut described = json!({
        "os": parts.next().unwrap_or_default(),
        "architecture": parts.next().unwrap_or_default(),
    });
    if let Some(variant) = parts.next() {
        described["variant"] = variant.into();
    }
    described
}

/// Writes all documents of an archive. The index comes first: whoever reads a stream knows then
/// what the rest is.
pub(super) fn write_heads(
    documents: &[Document],
    format: Format,
    outer: &mut Outer<impl Write>,
) -> Result<(), ExportError> {
    outer.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let manifests: Vec<_> = documents.iter().flat_map(Document::in_index).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    outer.file("index.json", index.to_string().as_bytes())?;
    if format == Format::Docker {
        let images: Vec<_> = documents.iter().map(Document::in_docker).collect();
        outer.file("manifest.json", Value::from(images).to_string().as_bytes())?;
    }
    outer.directory("blobs/")?;
    outer.directory("blobs/sha256/")?;
    let mut written = BTreeSet::new();
    for bytes in documents.iter().flat_map(|one| [&one.manifest, &one.config]) {
        let path = Blob::of(bytes).path();
        if written.insert(path.clone()) {
            outer.file(&path, bytes)?;
        }
    }
    Ok(())
}
