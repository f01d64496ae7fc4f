//! House rules that neither the compiler nor clippy checks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a broken rule should stop the test")]

mod circles;
mod dependencies;
mod documents;
mod members;
mod names;
mod prose;
mod seccomp;
mod sizes;
mod tree;
mod unsafe_code;
