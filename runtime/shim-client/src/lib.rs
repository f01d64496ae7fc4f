//! Shims, seen from a daemon that runs pods: start one, call it, find it again after the daemon's
//! restart, clean up after it. It serves any runtime of containerd's shim protocol version 2, as
//! `containerd-shim-cuddy-v2` and `containerd-shim-runc-v2`. It knows no server's messages.
//!
//! - [`Runtime`] is a kind of shim: its binary, which is executed to start one and to clean up.
//! - [`Shim`] is one that serves: the Task service in either version, [`Sandbox`], and [`Own`].
//! - [`events::Events`] is where shims publish.
//!
//! What a daemon has to do besides:
//!
//! - Make a bundle for each container, named as it, with `config.json` and for runc `rootfs`.
//! - Serve [`events::Events`] before the first start, on the same path in every run.
//! - With [`TaskVersion::V2`], start the runtime for each container of a pod and delete each.
//! - With [`TaskVersion::V3`], do so for the first one only, and create the others in its shim.
//! - Start and delete one after the other for the same pod.
//! - When [`Shim::closed`] returns unasked, or [`Shim::reconnect`] says [`Error::Gone`], execute
//!   [`Runtime::delete`] and take its exit for that of each container that had none.
//! - When a shim only does not answer, leave it alone: its containers may run well.

mod bundle;
mod connection;
mod convert;
mod endpoint;
mod error;
pub mod events;
#[cfg(fuzzing)]
pub mod fuzzing;
mod limits;
mod own;
mod runtime;
mod sandbox;
mod shim;
mod shim_log;
mod task;
mod text;
mod words;

pub use endpoint::TaskVersion;
pub use error::Error;
pub use own::Own;
pub use runtime::{Daemon, Info, Runtime};
pub use sandbox::Sandbox;
pub use shim::Shim;
pub use words::{
    Any, Connected, Listed, Listing, PodMetrics, ProcessState, SandboxRequest, SandboxStarted,
    SandboxStatus, Status,
};
