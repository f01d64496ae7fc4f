//! What containers of one pod are given, and what is heard of them, through containerd's CRI server.
//! All are in the same pod; what needs one of its own is in `pod_contents`.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod life;
mod probe;
mod resources;
mod seccomp;
mod streams;
mod volumes;
