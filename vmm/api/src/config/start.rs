//! What a guest starts from.

use std::fmt::{self, Write as _};
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ConfigError, FdSlot};

/// What a guest starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Start {
    /// An uncompressed 64-bit ELF `vmlinux`, open for reading.
    Kernel(FdSlot),
    /// A machine that was saved by [`Request::Save`](crate::Request::Save).
    Saved {
        /// Its state, a file open for reading.
        state: FdSlot,
        /// The kernel that the client means to run. A machine that was booted from another one is
        /// refused.
        kernel: KernelDigest,
        /// The pages that its clones are known to write, a list as [`pages`](crate::pages) has them,
        /// open for reading. The machine gets its own before it runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        written: Option<FdSlot>,
    },
}

/// The SHA-256 of a kernel's file, on the wire as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelDigest([u8; 32]);

impl KernelDigest {
    /// The digest of a kernel that is read from its start. Takes as long as reading 20 MiB and
    /// more does: a client keeps the result for as long as the file stays the same.
    ///
    /// # Errors
    /// What reading says.
    pub fn of(mut kernel: impl Read) -> io::Result<Self> {
        let mut hash = Sha256::new();
        io::copy(&mut kernel, &mut HashWriter(&mut hash))?;
        Ok(Self(hash.finalize().into()))
    }

    /// The digest's bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Lets a reader be copied to a hash.
struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<[u8; 32]> for KernelDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for KernelDigest {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::Digest(text.chars().take(80).collect());
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return Err(invalid());
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = (digit(digits[0]), digit(digits[1]));
            let (high, low) = high.zip(low).ok_or_else(invalid)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for KernelDigest {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl From<KernelDigest> for String {
    fn from(digest: KernelDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for KernelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.pad(&text)
    }
}

impl fmt::Debug for KernelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, example B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digest_is_the_files_sha256_and_reads_back() {
        let digest = KernelDigest::of(&b"abc"[..]).unwrap();
        assert_eq!(digest.to_string(), ABC);
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("{ABC:?}"));
        assert_eq!(serde_json::from_str::<KernelDigest>(&json).unwrap(), digest);
    }

    #[test]
    fn what_is_no_digest_is_refused_by_name() {
        for text in ["", "abc", &ABC[1..], &format!("{ABC}00"), &ABC.replace('b', "g"), "\u{e9}"] {
            let error = text.parse::<KernelDigest>().unwrap_err();
            assert!(error.to_string().starts_with("kernel digest"), "{error}");
        }
    }

    #[test]
    fn starts_have_the_wires_spelling() {
        let kernel = serde_json::to_value(Start::Kernel(FdSlot(0))).unwrap();
        assert_eq!(kernel, serde_json::json!({"kernel": 0}));
        let digest = KernelDigest::of(&b"abc"[..]).unwrap();
        let saved = Start::Saved { state: FdSlot(1), kernel: digest, written: None };
        let json = serde_json::to_value(&saved).unwrap();
        assert_eq!(json, serde_json::json!({"saved": {"state": 1, "kernel": ABC}}));
        assert_eq!(serde_json::from_value::<Start>(json).unwrap(), saved);
    }
}
