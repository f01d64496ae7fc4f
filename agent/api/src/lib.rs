//! The contract between host and guest agent: services and messages of `proto/`,
//! the vsock ports, and the guest paths that both sides rely on.

#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/mod.rs"));
}

pub use generated::{container, health, process, sandbox, storage, types};
pub use generated::{container_ttrpc, health_ttrpc, process_ttrpc, sandbox_ttrpc, storage_ttrpc};

/// vsock port of the agent's ttrpc services.
pub const RPC_PORT: u32 = 1024;

/// vsock port of process streams; see `Streams` in `proto/types.proto`.
pub const STREAM_PORT: u32 = 1025;

/// Where the pod's shared directory is mounted in the guest.
pub const SHARE_DIR: &str = "/run/cuddy/share";

/// Below this directory the agent keeps its own state and mounts in the guest.
pub const STATE_DIR: &str = "/run/cuddy";
