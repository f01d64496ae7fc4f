//! What operators and plugins of CNI write: a network's configuration, a plugin's result, its
//! error, and its versions. Each input is taken for each of them.
//!
//! Checked besides panics:
//! - Texts in errors are short and do nothing to a terminal.
//! - A configuration and an attachment that were understood are the same when stored and read.
//! - What a plugin is told names the network, and no plugin's name has a slash.
//! - A result that was written in a version is the same when it is written in it again.
//! - A pod's first address is one of IPv4, if it has one.
//! - No allocation is larger than a few inputs.

use crate::{hostile, limits};

/// Most bytes of one allocation.
const LARGEST: usize = 1 << 20;

/// Runs one input.
pub fn run(input: &[u8]) {
    let texts = limits::within(LARGEST, || cni::fuzzing::read(input));
    texts.iter().for_each(|text| hostile::check(text));
}
