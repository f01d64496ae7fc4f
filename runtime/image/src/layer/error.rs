//! Why a layer can't be converted.

use std::io;

use crate::digest::{Digest, Mismatch};

/// Why a layer can't be converted. Paths and names are shown with escapes, and cut.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The source failed.
    #[error("receiving layer {layer}, after {taken} of {size} bytes")]
    Source {
        /// The layer's digest.
        layer: Digest,
        /// Bytes that have come.
        taken: u64,
        /// Bytes that there should be.
        size: u64,
        /// What the source says.
        source: io::Error,
    },
    /// The source has other bytes than the manifest names.
    #[error("the layer is not what the manifest says")]
    Content(#[source] Mismatch),
    /// The archive has other bytes than the configuration names.
    #[error("the layer's archive is not what the image's configuration says")]
    DiffId(#[source] Mismatch),
    /// The source can't be decompressed.
    #[error("decompressing the layer by {format}, after {archive} bytes of its archive: {reason}")]
    Decompress {
        /// The format that its first bytes tell.
        format: &'static str,
        /// Bytes of the archive before.
        archive: u64,
        /// The decompressor's words.
        reason: String,
    },
    /// Not a tar archive.
    #[error("the layer's archive is not valid at byte {at}: {reason}")]
    Archive {
        /// Where the header, or the first of the headers of one entry, is.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// The archive ends within an entry.
    #[error("the layer's archive ends within {what}, after {archive} bytes")]
    Truncated {
        /// Within what.
        what: String,
        /// Its size in bytes.
        archive: u64,
    },
    /// The archive, which may decompress to anything, is larger than the image may be.
    #[error("the layer's archive has more than {limit} bytes, at {what}")]
    TooLarge {
        /// Where in the archive.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// An entry that no tool of today would make.
    #[error("entry \"{path}\" of the layer {problem}")]
    Entry {
        /// Its path in the archive.
        path: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// An entry that can't be in an image, or not in this one: its path, its target, or a limit.
    #[error("entry \"{path}\" of the layer")]
    Image {
        /// Its path in the archive.
        path: String,
        /// What the writer says.
        source: erofs::Error,
    },
    /// The image's own parts, behind the entries, are too large.
    #[error("ending the layer's image")]
    End(#[source] erofs::Error),
    /// The output failed. The kind of the source is that of the system's error, such as
    /// [`io::ErrorKind::StorageFull`].
    #[error("writing {what} of the layer")]
    Output {
        /// What was to be written.
        what: String,
        /// Where, and the system's words.
        source: io::Error,
    },
}

impl LayerError {
    /// The error of an entry that the writer has refused.
    pub(super) fn of_entry(path: &[u8], error: erofs::Error) -> Self {
        let path = shown(path);
        match error {
            erofs::Error::Io(source) => Self::Output { what: format!("entry \"{path}\""), source },
            source => Self::Image { path, source },
        }
    }

    /// Whether other bytes would have made another result.
    pub(super) fn is_of_content(&self) -> bool {
        match self {
            Self::Decompress { .. }
            | Self::Archive { .. }
            | Self::Truncated { .. }
            | Self::TooLarge { .. }
            | Self::Entry { .. }
            | Self::Image { .. } => true,
            Self::Source { .. }
            | Self::Content(_)
            | Self::DiffId(_)
            | Self::End(_)
            | Self::Output { .. } => false,
        }
    }
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// No type that layers have.
    #[error("is of the unknown type '{}'", kind.escape_ascii())]
    Type {
        /// The type flag.
        kind: u8,
    },
    /// A header of a kind that nobody has described.
    #[error("has a header that says \"ustar\" with an unknown version")]
    Version,
    /// A number that is none, is negative or too large.
    #[error("has an impossible {field}: \"{value}\"")]
    Number {
        /// Which number.
        field: &'static str,
        /// Its text or bytes.
        value: String,
    },
    /// Records of a PAX header that can't be told apart.
    #[error("has a PAX header that is not valid")]
    Pax,
    /// A link that leads nowhere.
    #[error("is a link without a target")]
    NoTarget,
    /// Headers from before POSIX have no device numbers.
    #[error("is a device without a number")]
    NoDevice,
    /// The map of a sparse file contradicts itself or its data.
    #[error("is a sparse file whose map {0}")]
    Sparse(&'static str),
    /// A whiteout of nothing, `.` or `..`.
    #[error("is a whiteout without a name to hide")]
    Whiteout,
    /// An extended attribute that the image can't keep.
    #[error("has an extended attribute that can't be kept: {0}")]
    Xattr(String),
}

/// Longest text of a path, in bytes of the path.
const SHOWN: usize = 256;

/// What a stranger chose, for a message: cut, and with escapes for all that is not plain ASCII.
pub(super) fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..SHOWN).unwrap_or(bytes);
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("{}{dots}", cut.escape_ascii())
}
