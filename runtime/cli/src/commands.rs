//! The verbs of `cuddy`, one per file.

pub(crate) mod check;
