//! What containers of pods are given, and what is heard of them, through containerd's CRI server.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod identity;
mod node;
mod probe;
mod resources;
mod streams;
mod volumes;
