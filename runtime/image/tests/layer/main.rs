//! Layers converted to images, which a reader of our own and `fsck.erofs` read back.
//!
//! The tests need `fsck.erofs`, GNU tar, and root for devices and owners.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

#[cfg(test)]
mod convert;
#[cfg(test)]
mod links;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod parents;
#[cfg(test)]
mod semantics;
#[cfg(test)]
mod sparse;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tar;
#[cfg(test)]
mod tools;

/// The reader of the fuzzer `erofs`; its `crate::` are the names below.
#[path = "../../../erofs/src/fuzzing/reader.rs"]
#[allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test's own code, where every failure ends the test"
)]
pub mod reader;

use erofs::{Mtime, Special};
