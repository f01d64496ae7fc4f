//! A layer of an image, from the bytes of a registry to an EROFS image, in one pass:
//!
//! ```text
//! source → size, digest → decompression → diff_id → tar → EROFS → output
//! ```
//!
//! Nothing compressed is kept, and nothing is unpacked on the host. The output has its magic number
//! only after both digests were found right. Memory does not grow with the sizes of files.
//!
//! The archive is a stranger's. It means what containerd makes of it for overlayfs, as far as one
//! layer can tell (docs/decisions/layer-conversion.md says where not):
//!
//! - Whiteouts (OCI image specification, "layer.md") become those of overlayfs.
//! - Paths stay inside the image. Symbolic links above an entry are followed inside it.
//! - The last entry with a path counts. The root's own entry does not.
//! - A hard link needs its target before it, in the same layer.
//!
//! The caller owns the output: it syncs, renames or removes. A `tempfile::NamedTempFile` removes
//! itself unless it is kept, and says its path in errors.

mod archive;
mod entry;
mod error;
mod inflate;
mod name;
mod number;
mod output;
mod pax;
mod place;
mod source;

use std::io::{Read, Seek, Write};

use erofs::{Options, Summary};

use crate::digest::{Algorithm, Digest, Mismatch};
use archive::Archive;
use inflate::Inflate;
use place::Placement;
use source::Source;

pub use error::{EntryProblem, LayerError};
pub use output::WriteFailed;
pub use place::Dropped;

/// What a manifest and a configuration say of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Name of the content that the registry sends.
    pub digest: Digest,
    /// Size of that in bytes.
    pub size: u64,
    /// Name of the uncompressed archive. None: nobody has said it.
    pub diff_id: Option<Digest>,
}

/// A layer that was converted, and is what it was expected to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Name of the archive: as expected, or its SHA-256.
    pub diff_id: Digest,
    /// Bytes of the archive, with all that follows its end.
    pub archive: u64,
    /// What was written.
    pub image: Summary,
    /// Extended attributes that the image lacks.
    pub dropped: Dropped,
}

/// Converts a layer.
///
/// `source` is read to its end. The first bytes say how it is compressed, whatever its media type
/// says, as in containerd: gzip with any number of members, Zstandard with frames of any kind, or
/// not at all. `output` should be empty. `options.limits.image` bounds the archive as well.
///
/// The same source and options make the same bytes.
///
/// # Errors
/// [`LayerError`]. The output is of no use then. Where bytes make no sense, the rest of the source
/// is read as well: if they are not those of the digest, the error says so, for another mirror may
/// have the right ones.
pub fn convert(
    source: impl Read,
    expected: &Expected,
    output: impl Write + Seek,
    options: Options,
) -> Result<Layer, LayerError> {
    let algorithm = expected.diff_id.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let source = Source::new(source, expected.digest.clone(), expected.size);
    let inflate = Inflate::new(source)?;
    let mut archive = Archive::new(inflate, algorithm, options.limits.image);
    let mut placement = Placement::new(output, options)?;
    if let Err(error) = place_all(&mut archive, &mut placement) {
        return Err(if error.is_of_content() { archive.into_cause(error) } else { error });
    }
    let (diff_id, archive) = archive.finish()?;
    if let Some(expected) = expected.diff_id.clone().filter(|expected| *expected != diff_id) {
        return Err(LayerError::DiffId(Mismatch::Hash { expected, found: diff_id }));
    }
    let (image, dropped) = placement.finish()?;
    Ok(Layer { diff_id, archive, image, dropped })
}

fn place_all<R: Read, W: Write + Seek>(
    archive: &mut Archive<R>,
    placement: &mut Placement<W>,
) -> Result<(), LayerError> {
    while let Some(entry) = archive.next_entry()? {
        placement.put(entry, archive)?;
    }
    archive.drain()
}
