//! Templates: machines that have booted once and were saved, for others to go on from. A start from
//! one takes a tenth of a boot, and memory that no clone has written is there once.
//!
//! ```text
//!  recipe (inputs, class, CPUs, tenant) ──key──► store ──found──► clone
//!                                                  ▲        └─none──► boot; then, in the background:
//!  builder: memory ► boot ► warm ► save ► try ─────┘ one rename
//! ```
//!
//! A template is never mended. One that can't be used is removed, with a note of why, and the pod
//! boots. Nobody waits for one, and nothing but time is lost when one is missing.

pub mod background;
mod builder;
mod cgroup;
mod class;
mod error;
mod identity;
mod key;
mod recipe;
mod room;
mod store;
mod trial;
mod written;

pub use builder::Builder;
pub use cgroup::remove_cgroup;
pub use class::class_for;
pub use error::TemplateError;
pub use identity::{Identity, Inputs};
pub use key::{Key, NotAKey};
pub use recipe::{Recipe, Wish};
pub use store::{Failure, Listed, Lock, Record, Store, Template};
pub use trial::{Tried, limit, try_out};
