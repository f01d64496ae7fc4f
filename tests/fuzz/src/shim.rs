//! What a shim writes to the daemon that drives it: answers to `start`, `delete` and `-info`, and
//! the events that it publishes. Each input is taken for each of them.
//!
//! Checked besides panics:
//! - Texts in errors are short and do nothing to a terminal.
//! - An endpoint that was read is the same once it was written and read again.
//! - No allocation is larger than the largest of the messages' library.

use crate::{hostile, limits};

/// Most bytes of one allocation. The library takes so many for bytes that a message only promises.
const LARGEST: usize = 10_000_000;

/// Runs one input.
pub fn run(input: &[u8]) {
    let texts = limits::within(LARGEST, || shim_client::fuzzing::read(input));
    texts.iter().for_each(|text| hostile::check(text));
}
