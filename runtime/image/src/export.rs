//! Images out of the store, as archives that Docker, containerd, skopeo and [`crate::archive`] read.
//!
//! ```text
//! store ─► EROFS of each layer ─► tar, twice: once for its digest, once into the archive
//! ```
//! The store keeps no archive, so each layer's is made again. It has the same files, but not the same
//! bytes. So an exported image has other `diff_ids`, another configuration and another id, unless it
//! came from such an archive. The same image makes the same archive.
//!
//! Everything here waits for the disk, so async code calls it on a thread for that.

mod entry;
mod layer;
mod layout;
mod outer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use erofs::ReadError;
use serde_json::Value;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::reference::{ImageName, Reference};
use crate::store::{Hold, Store, StoreError};
use crate::text::line;
use layer::LayerFault;
use layout::{Blob, Document};
use outer::Outer;

/// Most characters of a parser's words.
const MAX_WORDS: usize = 300;

/// What an archive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout (OCI image specification v1.1, "image-layout.md").
    Oci,
    /// The same with the `manifest.json` of `docker save`, as Docker writes it since version 25.
    /// Older ones read it as well.
    Docker,
}

/// An image that can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store does not have it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer's file can't be opened.
    #[error("opening layer {layer}")]
    Open {
        /// Which layer.
        layer: Digest,
        /// Why not.
        source: io::Error,
    },
    /// A layer's file can't be read.
    #[error("reading layer {layer}")]
    Read {
        /// Which layer.
        layer: Digest,
        /// Why not.
        source: ReadError,
    },
    /// An archive can't have an entry of a layer.
    #[error("layer {layer}, entry \"{path}\": {reason}")]
    Entry {
        /// Which layer.
        layer: Digest,
        /// The entry's path, with escapes.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// A layer was not twice the same.
    #[error("layer {layer} was changed while it was read")]
    Changed {
        /// Which layer.
        layer: Digest,
    },
    /// An image's configuration is none.
    #[error("the configuration of image {image}: {reason}")]
    Config {
        /// Which image.
        image: Digest,
        /// What is wrong.
        reason: String,
    },
    /// Whoever takes the archive does not.
    #[error("writing the archive")]
    Write(#[source] io::Error),
}

/// An image that is to be exported.
#[derive(Debug)]
pub struct Wanted {
    hold: Hold,
    names: Vec<Reference>,
}

impl Wanted {
    /// The image that a text names. It is called by its tag in the archive if the text has one;
    /// an id gives no name, and a digest none either: the exported manifest has another.
    ///
    /// # Errors
    /// [`StoreError`], if there is no such image.
    pub fn find(store: &Store, text: &str) -> Result<Self, StoreError> {
        let view = store.view();
        let hold = store.hold(&view.find(text)?.id)?;
        let named = match text.parse() {
            Ok(ImageName::Reference(name)) => view.named(&name).is_some().then_some(name),
            _ => None,
        };
        let names = named.into_iter().filter(|name| name.tag().is_some()).collect();
        Ok(Self { hold, names })
    }
}

/// An image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The image in the store.
    pub source: Digest,
    /// Its id wherever the archive is loaded.
    pub id: Digest,
    /// What it is called there.
    pub names: Vec<Reference>,
}

/// Writes an archive of images.
///
/// # Errors
/// [`ExportError`]; what was written is of no use then.
pub fn export(
    store: &Store,
    wanted: &[Wanted],
    format: Format,
    out: impl Write,
) -> Result<Vec<Exported>, ExportError> {
    let mut layers = BTreeMap::new();
    let mut documents = Vec::new();
    for one in wanted {
        documents.push(document(store, one, &mut layers)?);
    }
    let mut outer = Outer::new(out);
    layout::write_heads(&documents, format, &mut outer)?;
    // By what they are in the archive: the same layers lie in the same order whatever they came from,
    // and two that have become one come once.
    let layers = layers.into_values().map(|made| (made.blob.digest.clone(), made));
    for Made { source, path, blob } in layers.collect::<BTreeMap<_, _>>().into_values() {
        outer.begin(&blob.path(), blob.size)?;
        let mut sink = Sink::new(&mut outer);
        write_layer(&source, &path, &mut sink)?;
        if sink.finish() != blob {
            return Err(ExportError::Changed { layer: source });
        }
        outer.end()?;
    }
    outer.finish()?;
    Ok(documents.into_iter().map(|document| document.exported).collect())
}

/// A layer whose archive is known.
#[derive(Debug)]
struct Made {
    source: Digest,
    path: std::path::PathBuf,
    blob: Blob,
}

/// What is written of an image beside its layers. Those that no image before had are added.
fn document(
    store: &Store,
    wanted: &Wanted,
    layers: &mut BTreeMap<Digest, Made>,
) -> Result<Document, ExportError> {
    let image = wanted.hold.image();
    let mut blobs = Vec::new();
    for (layer, path) in image.layers.iter().zip(wanted.hold.layers()) {
        let source = layer.diff_id.clone();
        let blob = match layers.get(&source) {
            Some(made) => made.blob.clone(),
            None => {
                let mut sink = Sink::new(io::sink());
                write_layer(&source, &path, &mut sink)?;
                let blob = sink.finish();
                let made = Made { source: source.clone(), path, blob: blob.clone() };
                layers.insert(source, made);
                blob
            }
        };
        blobs.push(blob);
    }
    let diff_ids: Vec<_> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    let config = store.config(&image.id)?;
    let unchanged = image.layers.iter().map(|layer| &layer.diff_id).eq(&diff_ids);
    let config = if unchanged { config } else { rewritten(&image.id, &config, &diff_ids)? };
    Ok(Document::new(&image.platform, (&image.id, &wanted.names), config, blobs))
}

/// A configuration with other layers.
fn rewritten(image: &Digest, config: &[u8], diff_ids: &[Digest]) -> Result<Vec<u8>, ExportError> {
    let wrong = |reason: String| ExportError::Config { image: image.clone(), reason };
    let parsed = serde_json::from_slice(config);
    let mut config: Value = parsed.map_err(|error| wrong(line(&error.to_string(), MAX_WORDS)))?;
    let layers = config.get_mut("rootfs").and_then(|rootfs| rootfs.get_mut("diff_ids"));
    *layers.ok_or_else(|| wrong("it has no layers".to_owned()))? =
        diff_ids.iter().map(|digest| Value::from(digest.as_str())).collect();
    Ok(config.to_string().into_bytes())
}

fn write_layer(layer: &Digest, path: &Path, out: &mut impl Write) -> Result<(), ExportError> {
    let opened = File::open(path);
    let file = opened.map_err(|source| ExportError::Open { layer: layer.clone(), source })?;
    layer::write(file, out).map_err(|fault| {
        let layer = layer.clone();
        match fault {
            LayerFault::Read(source) => ExportError::Read { layer, source },
            LayerFault::Write(source) => ExportError::Write(source),
            LayerFault::Entry { path, reason } => ExportError::Entry { layer, path, reason },
        }
    })
}

/// Passes an archive on, and learns its digest and size.
struct Sink<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Sink<W> {
    fn new(out: W) -> Self {
        Self { out, hasher: Hasher::new(Algorithm::Sha256), size: 0 }
    }

    fn finish(self) -> Blob {
        Blob { digest: self.hasher.finish(), size: self.size }
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
