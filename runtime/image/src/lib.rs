//! Images: what they are called, what registries answer about them, which registries are asked,
//! and what proves to a registry that the asker may pull. [`store`] keeps those that are here.
//!
//! Nothing here speaks to a network. Every text that a stranger writes is parsed here: bounded,
//! without panics, and with errors that name what is wrong and show no secret.

pub mod challenge;
pub mod credentials;
pub mod digest;
pub mod hosts;
pub mod manifest;
pub mod redact;
pub mod reference;
pub mod secret;
pub mod store;
mod text;

#[cfg(test)]
mod tests;

pub use digest::Digest;
pub use reference::Reference;
pub use secret::Secret;
