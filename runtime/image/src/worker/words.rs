//! What daemon and worker say to each other. Both are the same program, so there are no versions.
//!
//! Jobs are messages of [`vmm_api::wire`] with descriptors. All else is frames on a job's socket: four
//! bytes with the length, lowest first, and a [`Told`] or a plan in postcard. The daemon reads
//! frames as those of a stranger.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::credentials::AuthConfig;
use crate::digest::Digest;
use crate::export::{Exported, Format};
use crate::hosts::Hosts;
use crate::layer::Expected;
use crate::manifest::{Blob, MAX_LAYERS, MAX_MANIFEST_BYTES, Manifest};
use crate::reference::Reference;
use crate::registry::{Class, Patience};
use crate::text::line;

/// Most bytes of a frame to the daemon: a document, and its description.
pub const MAX_FRAME: u64 = MAX_MANIFEST_BYTES + (64 << 10);

/// Most characters of a worker's words.
pub const MAX_WORDS: usize = 4096;

/// What a worker is to do. The first one decides what it reads of the node; behind the dash are the
/// descriptors that come beside the job's socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// The first of a pull: what a reference means.
    Resolve(Box<Resolve>),
    /// A layer of that image - its file.
    Layer(Wanted),
    /// The first of a load: what images an archive has - its stream, and a file to keep it in.
    Open,
    /// A layer of that archive - its file.
    Entry(String, Wanted),
    /// The first of a save or of implied directories, and each of the layers - its file, of which this
    /// is the name.
    File(PathBuf),
    /// The archive of a plan, which is the first frame - where it goes.
    Save(Format),
    /// The layer of implied directories of an image, whose layers have come - its file.
    Parents,
}

/// A pull.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) reference: Reference,
    pub(crate) hosts: Hosts,
    pub(crate) auth: Option<AuthConfig>,
    pub(crate) patience: Patience,
}

/// A blob, and the archive in it that was promised. Pulls that were promised other things, or other
/// sizes, do not share a job: one's lie is not the other's failure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) blob: Blob,
    pub(crate) diff_id: Digest,
}

impl Wanted {
    pub(crate) fn expected(&self) -> Expected {
        let (Blob { digest, size }, diff_id) = (self.blob.clone(), Some(self.diff_id.clone()));
        Expected { digest, size, diff_id }
    }
}

/// What the daemon hears of a job. Every one but those that say how far it is is an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// So many bytes of the layer have come.
    Received(u64),
    /// The layer, or the archive, is whole.
    Done,
    /// What is odd about the node's configuration.
    Warning(String),
    /// An index, or last the manifest.
    Document(Document),
    /// The image's configuration: the last of what a reference means.
    Config(Vec<u8>),
    /// An image of an archive.
    Found(Box<Found>),
    /// An image of the archive that was written.
    Exported(Exported),
    /// Whether the image has implied directories.
    Implied(bool),
    /// It could not be done.
    Failed(Failure),
}

/// A document as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it must hash to.
    pub digest: Digest,
    /// The header `Content-Type`, if it can be read.
    pub content_type: Option<String>,
    /// The very bytes.
    pub body: Vec<u8>,
}

/// An image of an archive; its configuration comes right after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What it is called there.
    pub names: Vec<Reference>,
    /// Its manifest.
    pub manifest: Manifest,
    /// The files of its layers in the archive.
    pub layers: Vec<String>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// All causes, in one line.
    pub text: String,
    /// What follows from it.
    pub kind: FailureKind,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The registry did not give it.
    Registry(Class),
    /// A registry gave something else than the digest says.
    Content,
    /// It can't be used.
    Invalid,
    /// There is no room.
    Full,
    /// Whoever takes what is written does not.
    Gone,
}

/// A frame that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is larger than any.
    #[error("it announces {0} bytes")]
    TooLarge(u32),
    /// It is not what it should be.
    #[error("its message can't be read")]
    Malformed,
    /// It says more than can be.
    #[error("its message has too many parts")]
    TooMany,
}

impl Failure {
    /// A failure whose text is not the daemon's.
    pub(crate) fn new(kind: FailureKind, text: &str) -> Self {
        Self { text: line(text, MAX_WORDS), kind }
    }
}

/// The bytes of a frame.
pub(crate) fn frame<T: Serialize>(message: &T) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = postcard::to_extend(message, vec![0; 4])?;
    let length =
        u32::try_from(bytes.len() - 4).map_err(|_| postcard::Error::SerializeBufferFull)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// How many bytes follow the first four of a frame to the daemon.
///
/// # Errors
/// [`FrameError::TooLarge`].
pub fn length(head: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(head);
    match usize::try_from(length) {
        Ok(bytes) if u64::from(length) <= MAX_FRAME => Ok(bytes),
        _ => Err(FrameError::TooLarge(length)),
    }
}

/// What a frame tells the daemon. Texts are made harmless.
///
/// # Errors
/// [`FrameError`].
pub fn told(frame: &[u8]) -> Result<Told, FrameError> {
    let (told, rest) = postcard::take_from_bytes(frame).map_err(|_| FrameError::Malformed)?;
    if !rest.is_empty() {
        return Err(FrameError::Malformed);
    }
    match told {
        Told::Failed(Failure { text, kind }) => Ok(Told::Failed(Failure::new(kind, &text))),
        Told::Warning(text) => Ok(Told::Warning(line(&text, MAX_WORDS))),
        Told::Found(found) => found.checked().map(|found| Told::Found(Box::new(found))),
        other => Ok(other),
    }
}

impl Found {
    /// What an archive's reader has seen to, and a stranger would not.
    fn checked(mut self) -> Result<Self, FrameError> {
        let layers = self.manifest.layers.len();
        if layers > MAX_LAYERS || self.layers.len() != layers {
            return Err(FrameError::TooMany);
        }
        let mut sizes = self.manifest.layers.iter().map(|layer| layer.blob.size);
        let sum = sizes.try_fold(self.manifest.config.size, u64::checked_add);
        self.manifest.size =
            sum.filter(|sum| i64::try_from(*sum).is_ok()).ok_or(FrameError::TooMany)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Compression, Layer};

    fn sent(message: &Told) -> Result<Told, FrameError> {
        let frame = frame(message).unwrap();
        let head = frame[..4].try_into().unwrap();
        assert_eq!(length(head).unwrap(), frame.len() - 4);
        told(&frame[4..])
    }

    fn found(layers: &[u64], names: usize) -> Told {
        let blob = |size| Blob { digest: Digest::of(b""), size };
        let layer = |size: &u64| Layer { blob: blob(*size), compression: Compression::None };
        let layers = layers.iter().map(layer).collect();
        let manifest = Manifest { config: blob(1), layers, size: 7 };
        let layers = vec!["a".to_owned(); names];
        Told::Found(Box::new(Found { names: vec!["a:b".parse().unwrap()], manifest, layers }))
    }

    #[test]
    fn what_is_told_arrives_and_does_nothing_to_a_terminal() {
        let document = Document {
            digest: Digest::of(b"x"),
            content_type: Some("a/b".to_owned()),
            body: b"x".to_vec(),
        };
        for message in [Told::Done, Told::Received(7), Told::Document(document)] {
            assert_eq!(sent(&message).unwrap(), message);
        }
        let failure = |text: &str| Failure { text: text.to_owned(), kind: FailureKind::Full };
        let told = sent(&Told::Failed(failure("a\x1b[2J\nb"))).unwrap();
        assert_eq!(told, Told::Failed(failure("a [2J b")));
        let Told::Warning(text) = sent(&Told::Warning("x".repeat(1 << 20))).unwrap() else {
            panic!()
        };
        assert!(text.chars().count() <= MAX_WORDS + 1);
    }

    #[test]
    fn what_no_reader_of_archives_would_tell_is_refused() {
        let Told::Found(good) = sent(&found(&[3, 4], 2)).unwrap() else { panic!() };
        assert_eq!(good.manifest.size, 8, "the sum is made here");
        for bad in [found(&[3], 2), found(&[u64::MAX, 5], 2), found(&[1 << 63], 1)] {
            assert!(matches!(sent(&bad), Err(FrameError::TooMany)), "{bad:?}");
        }
        assert!(matches!(length([255; 4]), Err(FrameError::TooLarge(_))));
        let whole = frame(&Told::Received(1 << 40)).unwrap();
        for end in 4..whole.len() {
            assert!(matches!(told(&whole[4..end]), Err(FrameError::Malformed)));
        }
        let longer = [&whole[4..], b"x"].concat();
        assert!(matches!(told(&longer), Err(FrameError::Malformed)));
    }
}
