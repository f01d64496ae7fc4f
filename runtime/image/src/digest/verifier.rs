//! Content that streams by, against the name and the size that were announced.

use super::{Digest, Hasher};

/// Content that is not what it was said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// More bytes than were announced. Those that follow need not be read.
    #[error("content of {digest} is longer than the {expected} bytes that were announced")]
    TooLong {
        /// The content's name.
        digest: Digest,
        /// The size that was announced, in bytes.
        expected: u64,
    },
    /// Fewer bytes than were announced.
    #[error("content of {digest} ended after {found} of the {expected} bytes that were announced")]
    TooShort {
        /// The content's name.
        digest: Digest,
        /// How many bytes there were.
        found: u64,
        /// The size that was announced, in bytes.
        expected: u64,
    },
    /// Other bytes.
    #[error("content of {expected} hashes to {found}")]
    Hash {
        /// The content's name.
        expected: Digest,
        /// The name that it should have.
        found: Digest,
    },
}

/// A check of content against its name, and its size if that was announced.
#[derive(Debug, Clone)]
pub struct Verifier {
    expected: Digest,
    size: Option<u64>,
    hasher: Hasher,
    taken: u64,
}

impl Verifier {
    /// Expects the content of that name and of `size` bytes.
    pub fn new(expected: Digest, size: Option<u64>) -> Self {
        let hasher = Hasher::new(expected.algorithm());
        Self { expected, size, hasher, taken: 0 }
    }

    /// How many bytes were taken: where a broken transfer goes on.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next bytes of the content.
    ///
    /// # Errors
    /// [`Mismatch::TooLong`] as soon as there are too many. They are not taken then.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        let taken = self.taken.saturating_add(bytes.len() as u64);
        if let Some(expected) = self.size.filter(|size| taken > *size) {
            return Err(Mismatch::TooLong { digest: self.expected.clone(), expected });
        }
        self.taken = taken;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Ends the content, and returns how many bytes it has.
    ///
    /// # Errors
    /// [`Mismatch`] if it is not what it was said to be.
    pub fn finish(self) -> Result<u64, Mismatch> {
        let taken = self.taken;
        if let Some(expected) = self.size.filter(|size| taken < *size) {
            return Err(Mismatch::TooShort { digest: self.expected, found: taken, expected });
        }
        let found = self.hasher.finish();
        if found == self.expected {
            Ok(taken)
        } else {
            Err(Mismatch::Hash { expected: self.expected, found })
        }
    }
}
