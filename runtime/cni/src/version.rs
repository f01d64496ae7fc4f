//! Versions of the CNI specification. This module is pure.

use std::fmt;
use std::str::FromStr;

/// A version of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

impl Version {
    /// What a configuration without one is written in.
    pub const OLDEST: Self = Self::new(0, 1, 0);
    /// From this one on, a result has lists of interfaces and addresses.
    pub const LISTS: Self = Self::new(0, 3, 0);
    /// From this one on, plugins know CHECK, and DEL gets the result of ADD.
    pub const CHECK: Self = Self::new(0, 4, 0);
    /// From this one on, an address does not say its family.
    pub const PLAIN_ADDRESSES: Self = Self::new(1, 0, 0);
    /// From this one on, plugins know STATUS and GC.
    pub const STATUS: Self = Self::new(1, 1, 0);
    /// The newest that this crate speaks.
    pub const NEWEST: Self = Self::new(1, 1, 0);

    const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Whether this crate speaks it.
    pub fn is_known(self) -> bool {
        (Self::OLDEST..=Self::NEWEST).contains(&self)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no version, as 1.0.0 is one")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    /// Reads one to three numbers, as libcni does. The empty text is [`Version::OLDEST`].
    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.is_empty() {
            return Ok(Self::OLDEST);
        }
        let mut numbers = [0; 3];
        let mut places = numbers.iter_mut();
        for part in text.split('.') {
            let place = places.next().ok_or(VersionError)?;
            if !part.bytes().all(|digit| digit.is_ascii_digit()) {
                return Err(VersionError);
            }
            *place = part.parse().map_err(|_| VersionError)?;
        }
        let [major, minor, patch] = numbers;
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number_and_nonsense_is_none() {
        let version = |text: &str| text.parse::<Version>();
        assert!(version("0.10.0").unwrap() > version("0.9.9").unwrap());
        assert_eq!(version(""), Ok(Version::OLDEST));
        assert_eq!(version("1"), Ok(Version::PLAIN_ADDRESSES));
        assert_eq!(version("0.3.1").unwrap().to_string(), "0.3.1");
        for text in ["1.0.0.0", "+1.0.0", "1..0", "v1.0.0", "1.0.0-dev", "1.99999.0", "."] {
            assert_eq!(version(text), Err(VersionError), "{text}");
        }
        let known = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
        assert!(known.iter().all(|text| version(text).unwrap().is_known()));
        assert!(!version("1.2.0").unwrap().is_known() && !version("0.0.9").unwrap().is_known());
    }
}
