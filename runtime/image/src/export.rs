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
use std::io::{self, Seek, Write};
use std::path::PathBuf;

use erofs::ReadError;
use serde::{Deserialize, Serialize};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A plan that makes no sense.
    #[error("image {image} has a layer that is not there")]
    Plan {
        /// Which image.
        image: Digest,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The image in the store.
    pub source: Digest,
    /// Its id wherever the archive is loaded.
    pub id: Digest,
    /// What it is called there.
    pub names: Vec<Reference>,
}

/// What is to be written, without the layers' files. The store knows no more of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    images: Vec<Planned>,
    /// All layers, each once, in the order of their files.
    layers: Vec<Digest>,
}

/// An image of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Planned {
    id: Digest,
    names: Vec<Reference>,
    platform: String,
    config: Vec<u8>,
    /// The lowest one first.
    layers: Vec<Digest>,
}

impl Plan {
    /// What the store has of these images, and the files of the layers.
    ///
    /// # Errors
    /// [`ExportError::Store`] and [`ExportError::Open`].
    pub(crate) fn new(
        store: &Store,
        wanted: &[Wanted],
    ) -> Result<(Self, Vec<(PathBuf, File)>), ExportError> {
        let (mut images, mut layers, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for Wanted { hold, names } in wanted {
            let image = hold.image();
            let own: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
            for (layer, path) in own.iter().zip(hold.layers()) {
                open_once((layer, path), &mut layers, &mut files)?;
            }
            images.push(Planned {
                id: image.id.clone(),
                names: names.clone(),
                platform: image.platform.to_string(),
                config: store.config(&image.id)?,
                layers: own,
            });
        }
        Ok((Self { images, layers }, files))
    }

    /// Writes the archive; `files` are those of the layers.
    ///
    /// # Errors
    /// [`ExportError`]; what was written is of no use then.
    pub(crate) fn write(
        self,
        files: &[File],
        format: Format,
        out: impl Write,
    ) -> Result<Vec<Exported>, ExportError> {
        let mut layers = BTreeMap::new();
        for (source, file) in self.layers.into_iter().zip(files) {
            let mut sink = Sink::new(io::sink());
            write_layer(&source, file, &mut sink)?;
            layers.insert(source, Made { file, blob: sink.finish() });
        }
        let images = self.images.into_iter().map(|image| document(image, &layers));
        let documents: Vec<_> = images.collect::<Result<_, _>>()?;
        let mut outer = Outer::new(out);
        layout::write_heads(&documents, format, &mut outer)?;
        // By what they are in the archive: the same layers lie in the same order whatever they came
        // from, and two that have become one come once.
        let layers = layers.iter().map(|(source, made)| (&made.blob.digest, (source, made)));
        for (source, Made { file, blob }) in layers.collect::<BTreeMap<_, _>>().into_values() {
            outer.begin(&blob.path(), blob.size)?;
            let mut sink = Sink::new(&mut outer);
            write_layer(source, file, &mut sink)?;
            if sink.finish() != *blob {
                return Err(ExportError::Changed { layer: source.clone() });
            }
            outer.end()?;
        }
        outer.finish()?;
        Ok(documents.into_iter().map(|document| document.exported).collect())
    }
}

/// Opens a layer that is not among those that are open.
fn open_once(
    (layer, path): (&Digest, PathBuf),
    layers: &mut Vec<Digest>,
    files: &mut Vec<(PathBuf, File)>,
) -> Result<(), ExportError> {
    if layers.contains(layer) {
        return Ok(());
    }
    let failed = |source| ExportError::Open { layer: layer.clone(), source };
    let file = File::open(&path).map_err(failed)?;
    files.push((path, file));
    layers.push(layer.clone());
    Ok(())
}

/// Writes an archive of images in this process.
///
/// # Errors
/// [`ExportError`]; what was written is of no use then.
pub fn export(
    store: &Store,
    wanted: &[Wanted],
    format: Format,
    out: impl Write,
) -> Result<Vec<Exported>, ExportError> {
    let (plan, files) = Plan::new(store, wanted)?;
    let files: Vec<_> = files.into_iter().map(|(_, file)| file).collect();
    plan.write(&files, format, out)
}

/// A layer whose archive is known.
#[derive(Debug)]
struct Made<'a> {
    file: &'a File,
    blob: Blob,
}

/// What is written of an image beside its layers.
fn document(image: Planned, made: &BTreeMap<Digest, Made<'_>>) -> Result<Document, ExportError> {
    let Planned { id, names, platform, config, layers } = image;
    let blob = |layer: &Digest| made.get(layer).map(|made| made.blob.clone());
    let blobs: Option<Vec<_>> = layers.iter().map(blob).collect();
    let blobs = blobs.ok_or_else(|| ExportError::Plan { image: id.clone() })?;
    let diff_ids: Vec<_> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    let config = if layers == diff_ids { config } else { rewritten(&id, &config, &diff_ids)? };
    Ok(Document::new(&platform, (&id, &names), config, blobs))
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

fn write_layer(layer: &Digest, mut file: &File, out: &mut impl Write) -> Result<(), ExportError> {
    let rewound = file.rewind();
    rewound.map_err(|source| ExportError::Open { layer: layer.clone(), source })?;
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
