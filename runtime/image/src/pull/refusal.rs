//! Why a registry did not give an image, as the process that asked tells it.

use std::fmt;

use crate::registry::Class;
use crate::worker::words::{Failure, FailureKind};

/// Why a registry did not give an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(Failure);

impl Refusal {
    pub(super) fn new(failure: Failure) -> Self {
        Self(failure)
    }

    /// What it means to who wanted the image.
    pub fn class(&self) -> Class {
        match self.0.kind {
            FailureKind::Registry(class) => class,
            _ => Class::Invalid,
        }
    }

    /// Whether the registry can't be reached or is in trouble, so that asking later may help.
    pub fn is_unavailable(&self) -> bool {
        self.class() == Class::Unavailable
    }

    /// Whether what came was not what its digest says.
    pub(super) fn is_of_content(&self) -> bool {
        self.0.kind == FailureKind::Content
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.text)
    }
}
