//! What can be wrong with an entry, or with the output.

use std::io;

/// Longest text of a path in an error, in bytes of the path.
const SHOWN: usize = 256;

/// Why an entry was refused, or why the image can't be written. Paths and names are shown with
/// escapes, and cut after 256 bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output failed, now or before.
    #[error("writing the image")]
    Io(#[source] io::Error),
    /// The path can't be in an image.
    #[error("the path \"{path}\" {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another entry of the image, no directory, is where a directory has to be.
    #[error("a part of the path \"{path}\" is no directory")]
    NotADirectory {
        /// Path of the new entry.
        path: String,
    },
    /// The image has nothing that the hard link could lead to.
    #[error("the target \"{target}\" of the hard link \"{path}\" is not in the image")]
    LinkTargetMissing {
        /// Path of the link.
        path: String,
        /// Path of its target.
        target: String,
    },
    /// A directory has one name only.
    #[error("the target \"{target}\" of the hard link \"{path}\" is a directory")]
    LinkToDirectory {
        /// Path of the link.
        path: String,
        /// Path of its target.
        target: String,
    },
    /// No symbolic link can have this target.
    #[error("the target of the symbolic link \"{path}\" {reason}")]
    SymlinkTarget {
        /// Path of the link.
        path: String,
        /// What is wrong with its target.
        reason: &'static str,
    },
    /// EROFS can't keep the extended attribute.
    #[error("the extended attribute \"{name}\" {reason}")]
    Xattr {
        /// Its whole name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Linux has 12 bits for the major and 20 bits for the minor number.
    #[error("the device \"{path}\" has the impossible number {major}:{minor}")]
    Device {
        /// Path of the device.
        path: String,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// The content is not as long as was said before.
    #[error("the content of a file is not of the {size} bytes that were announced")]
    Length {
        /// Bytes that were announced.
        size: u64,
    },
    /// The image would be larger than it may be.
    #[error("the image would have more than {limit} {what}")]
    Limit {
        /// What there would be too much of, as a plural.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
}

/// What a [`FileWriter`](crate::FileWriter) answered as [`io::Write`] is what it was before.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Io)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            error => Self::other(error),
        }
    }
}

impl Error {
    pub(crate) fn path(path: &[u8], reason: &'static str) -> Self {
        Self::Path { path: shown(path), reason }
    }
}

/// A path or name that a stranger chose, for a message.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..SHOWN).unwrap_or(bytes);
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("{}{dots}", cut.escape_ascii())
}
