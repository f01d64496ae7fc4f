//! Images: their names, their registries, and what becomes of them on a node.
//!
//! Registries are configured as for containerd, and asked by [`registry`]. A layer becomes an EROFS
//! file ([`layer`]), the [`store`] keeps it, and a [`pull`] joins all of this.
//!
//! Every text that a stranger writes is parsed here: bounded, without panics, and with errors that
//! name what is wrong and show no secret. Only [`registry`] speaks to a network.

pub mod archive;
pub mod challenge;
pub mod credentials;
pub mod digest;
pub mod export;
pub mod hosts;
pub mod implied;
pub mod layer;
pub mod load;
pub mod manifest;
pub mod parents;
pub mod pull;
pub mod redact;
pub mod reference;
pub mod registry;
pub mod save;
pub mod secret;
pub mod store;
mod text;
pub mod worker;

#[cfg(test)]
mod tests;

pub use digest::Digest;
pub use reference::Reference;
pub use registry::Registry;
pub use secret::Secret;
