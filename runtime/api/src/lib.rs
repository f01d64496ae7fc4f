//! The words that the doors and the core of the runtime share: names, requests, events, errors, what
//! a container uses and who it is. Texts that a stranger decides on are made harmless here. Nothing here
//! acts, and nothing here knows a server's messages.

pub mod error;
pub mod events;
pub mod ids;
pub mod image_volume;
pub mod request;
pub mod text;
pub mod usage;
pub mod user;

pub use error::Error;
pub use events::Event;
pub use ids::{ContainerId, ExecId, IdError, Namespace, SandboxId};
pub use user::User;
