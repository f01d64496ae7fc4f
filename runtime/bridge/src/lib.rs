//! The network of a node without CNI: a bridge, addresses, masquerade and published ports. A
//! configuration of CNI is to be preferred where there is one.
//!
//! ```text
//!   pod: eth0 ══ veth ── bridge cuddy0 ── the node's routing ── masquerade ──► elsewhere
//!                                               ▲── published ports ── from elsewhere, the node, pods
//! ```
//!
//! [`NodeBridge`] makes what the caller's [`Lease`]s say, and stores nothing: a lease is made and
//! stored first, and attached then. All calls are for one caller at a time. They act on the network
//! namespace that the calling thread is in.

mod error;
mod lease;
mod links;
mod node;
mod resolv;
mod rules;
mod subnets;

pub use error::Error;
pub use lease::Lease;
pub use node::NodeBridge;
pub use resolv::{host_dns, parse_dns};
pub use subnets::{Subnets, Wanted};
