//! What containers of pods are given, and what is heard of them, through containerd's CRI server:
//! what depends on the pod, each in one of its own. The rest is in `containers`.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod identity;
mod node;
#[path = "../containers/probe.rs"]
mod probe;
mod resources;
mod volumes;
