//! Pods as kubelet runs them, through containerd's CRI server: how they and their containers live,
//! and what kubelet asks of the node.
//! `life` and `node` go through every version that the lab has, with each controller.

#![allow(clippy::unwrap_used, reason = "what a test's own functions meet ends the test")]

mod life;
mod machine;
mod network;
mod node;
mod processes;
