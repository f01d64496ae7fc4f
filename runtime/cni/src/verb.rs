//! The commands of CNI. This module is pure.

use std::fmt;

/// What a plugin is to do (specification, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Look whether all that ADD made is there.
    Check,
    /// Say whether ADD would work.
    Status,
    /// Free what belongs to nobody.
    Gc,
    /// Say which versions are known.
    Version,
}

impl Verb {
    /// The value of `CNI_COMMAND`.
    pub fn command(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())
    }
}
