//! The companion of a pod that runs by another runtime than ours: one process beside its shim that
//! takes the containers' outputs. It writes their logs and shows them to clients, whether or not the
//! daemon lives.
//!
//! ```text
//!   container ─pipe─► its shim ─fifo─► companion ──► log
//!                                         └─fifo─► client that is attached
//! ```
//!
//! A shim holds both ends of its fifos. Who kills the companion loses what it has in its hands, and
//! nothing else. Another one that opens the same outputs goes on.
//!
//! [`Companion`] is the daemon's side. A connection carries one request and its answer, a line of
//! JSON each.
#![forbid(unsafe_code)]

mod client;
mod container;
mod server;
mod words;

pub use client::{Companion, Error};
pub use server::serve;
pub use words::{Outputs, Request};
