//! Messages that no crate has. They are Kubernetes' container runtime interface, what containerd
//! says to a shim since `containerd-shim-protos` 0.12, and the own services of our shim and our
//! daemon.

/// Messages of services that speak gRPC.
#[allow(
    missing_docs,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
mod messages {
    /// Kubernetes' container runtime interface, `runtime.v1`: messages only.
    pub mod cri {
        include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
    }

    /// Our own service of a node's daemon, `cuddy.node.v1`: messages only.
    pub mod node {
        include!(concat!(env!("OUT_DIR"), "/cuddy.node.v1.rs"));
    }
}

pub use messages::{cri, node};

include!(concat!(env!("OUT_DIR"), "/services.rs"));

pub use generated::{bootstrap, shim, shim_ttrpc, update, update_ttrpc};
