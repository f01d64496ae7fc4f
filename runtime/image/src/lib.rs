//! Images: what they are called, what registries answer about them, which registries are asked,
//! what proves to a registry that the asker may pull, what becomes of a layer, and the store of
//! those that are here.
//! and what proves to a registry that the asker may pull. [`store`] keeps those that are here.
//!
//! Every text that a stranger writes is parsed here: bounded, without panics, and with errors that
//! name what is wrong and show no secret. Only [`registry`] speaks to a network.

pub mod challenge;
pub mod credentials;
pub mod digest;
pub mod hosts;
pub mod layer;
pub mod manifest;
pub mod redact;
pub mod reference;
pub mod registry;
pub mod secret;
pub mod store;
mod text;

#[cfg(test)]
mod tests;

pub use digest::Digest;
pub use reference::Reference;
pub use registry::Registry;
pub use secret::Secret;
