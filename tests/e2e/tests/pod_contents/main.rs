//! What containers of pods are given, and what is heard of them, mostly through containerd's CRI
//! server. The tests here depend on the pod, so each has a pod of its own. The others are in
//! `containers`.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod identity;
mod node;
#[path = "../containers/probe.rs"]
mod probe;
mod resources;
mod volumes;
