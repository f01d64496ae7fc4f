//! Driving an installed product as its users do, for tests. A test's own failures end it by panic:
//! nobody else handles them.
//!
//! - [`ctr`] talks to the host's containerd.
//! - [`containerd`] runs one of another version.
//! - [`cri`] talks to one as kubelet does.
//! - [`shim`] talks to a shim directly.
//! - [`cri_o`] does as CRI-O does.
//! - [`cuddy`] is the command line, and a terminal for it.
//! - [`host`] looks at what the host shows.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

pub mod containerd;
pub mod cri;
pub mod cri_o;
pub mod ctr;
pub mod cuddy;
pub mod host;
pub mod shim;

use std::time::{Duration, Instant};

/// Deadline for what takes seconds natively; the lab emulates its host 10 to 30 times slower.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `done`; a host's state has no event to wait for. Whether it came true within
/// [`PATIENCE`].
pub fn comes_true(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

/// [`comes_true`], or the test's end.
///
/// # Panics
/// When `what` has not come true within [`PATIENCE`].
pub fn eventually(what: &str, done: impl FnMut() -> bool) {
    assert!(comes_true(done), "not within {} s: {what}", PATIENCE.as_secs());
}
