//! Digests: names of content by its hash, as `ALGORITHM:HEX` (OCI image specification,
//! "Digests"). Content is checked while it streams by.

mod verifier;

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::text::quoted;

pub use verifier::{Mismatch, Verifier};

/// A hash function that names content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which nearly everything uses.
    Sha256,
    /// SHA-384: not in the specification, but in the library that containerd and Docker use.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits follow the colon.
    pub fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon.
    #[error("digest {digest} names no algorithm: write sha256: and 64 hexadecimal digits")]
    NoAlgorithm {
        /// The text.
        digest: String,
    },
    /// An algorithm that content can't be checked with.
    #[error("digest {digest} is of an unknown algorithm: sha256, sha384 and sha512 are known")]
    UnknownAlgorithm {
        /// The text.
        digest: String,
    },
    /// Too short or too long.
    #[error("digest {digest} has {found} digits, and {algorithm} has {expected}")]
    Length {
        /// The text.
        digest: String,
        /// How many digits it has.
        found: usize,
        /// Its algorithm.
        algorithm: Algorithm,
        /// How many digits that has.
        expected: usize,
    },
    /// Something else than digits.
    #[error("digest {digest} has other characters than 0 to 9 and a to f, in lower case")]
    Digits {
        /// The text.
        digest: String,
    },
}

/// The name of content. Its hash is known to have the right form, so it can be a file's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: Box<str>,
}

impl Digest {
    /// The SHA-256 of bytes that are all there.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash in hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// The whole: algorithm, colon, hash.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digest = || quoted(text);
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm { digest: digest() });
        };
        let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        let Some(algorithm) = known else {
            return Err(DigestError::UnknownAlgorithm { digest: digest() });
        };
        let (found, expected) = (hex.len(), algorithm.digits());
        if found != expected {
            return Err(DigestError::Length { digest: digest(), found, algorithm, expected });
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Digits { digest: digest() });
        }
        Ok(Self { algorithm, text: text.into() })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text.into()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Content's hash, while the content streams by. A clone goes on from where it was made.
#[derive(Debug, Clone)]
pub struct Hasher(State);

#[derive(Debug, Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// The hash of nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha384 => State::Sha384(sha2::Sha384::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Takes the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha384(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The name of all that was taken.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(state) => named(Algorithm::Sha256, &state.finalize()),
            State::Sha384(state) => named(Algorithm::Sha384, &state.finalize()),
            State::Sha512(state) => named(Algorithm::Sha512, &state.finalize()),
        }
    }
}

fn named(algorithm: Algorithm, hash: &[u8]) -> Digest {
    let mut text = format!("{algorithm}:");
    for byte in hash {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Digest { algorithm, text: text.into() }
}

#[cfg(test)]
mod tests;
