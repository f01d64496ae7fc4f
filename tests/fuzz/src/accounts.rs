//! Users and groups that whoever made an image wrote, and the name that is looked for among them.
//!
//! Checked besides panics: see `accounts::fuzzing`. Errors are short and do nothing to a terminal,
//! and no allocation is larger than a few inputs.

use crate::{hostile, limits};

/// Most bytes of one allocation.
const LARGEST: usize = 1 << 20;

/// Runs one input.
pub fn run(input: &[u8]) {
    if let Some(error) = limits::within(LARGEST, || ::accounts::fuzzing::run(input)) {
        hostile::check(&error.to_string());
    }
}
