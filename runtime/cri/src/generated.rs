//! The generated servers: those of the container runtime interface, and our own beside it.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    unreachable_pub,
    reason = "generated code"
)]

pub(crate) mod cri {
    tonic::include_proto!("runtime.v1");
}

pub(crate) mod node {
    tonic::include_proto!("cuddy.node.v1");
}
