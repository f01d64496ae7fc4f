//! The calling side, with plugins that are small scripts, and with real ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what a test's own functions meet ends the test"
)]

mod attach;
mod follow;
mod ground;
mod process;
mod real;
mod store;
