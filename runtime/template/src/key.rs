//! Names of templates.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Bytes of a key.
const BYTES: usize = 16;

/// A name that no template has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no template: `cuddy template list` lists them")]
pub struct NotAKey(pub String);

/// Name of a template: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// That of what is described by `text`.
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut key = String::with_capacity(2 * BYTES);
        for byte in Sha256::digest(text).iter().take(BYTES) {
            // Writing to a string can't fail.
            let _ = write!(key, "{byte:02x}");
        }
        Self(key)
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 2 * BYTES && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAKey(text.chars().take(80).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_keys_are_refused() {
        let key = "0123456789abcdef0123456789abcdef";
        assert!(key.parse::<Key>().is_ok());
        for text in ["", "..", &key[1..], &key.to_uppercase(), &format!("{key}.new-1")] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
