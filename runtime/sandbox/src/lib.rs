//! The domain core of the runtime: what a sandbox, its containers and its processes are and how
//! they live and end. It knows no server code; shims and daemons are thin doors in front of
//! [`Sandbox`].
//!
//! Start reading at [`sandbox`]: the owner task that everything else serves. Its words are those of
//! the crate `api`. The machine and the way into its guest are the crate `machine`, what the node's
//! kernel is asked for is the crate `host`.

mod apparmor;
mod blocking;
pub mod container;
pub mod hooks;
mod network;
pub mod pod;
pub mod sandbox;
pub mod sizing;
pub mod spec;
pub mod stdio;
pub mod storage;

pub use pod::Pod;
pub use sandbox::Sandbox;
