//! Who a process is by the users and groups of its image, for host and guest alike. The agent asks
//! inside a machine. The daemon asks for pods that run without one.
//!
//! ```text
//!   "web:logs", Merge ──► Request ──┐
//!                                   ├──► Ids
//!   /etc/passwd, /etc/group ─► Files┘
//! ```
//! Whoever made the image wrote both files, and a running container can have put anything in their
//! place. [`Files::read`] is what looks at them; the rest does no I/O. The rules are those of
//! `docs/decisions/cri-to-oci.md`.
//!
//! The crate `uzers` asks the C library of the program that uses it, so it knows no other root. A
//! crate that only splits lines at colons would save ten lines here.

mod error;
mod files;
pub mod fuzzing;
mod request;
mod table;

pub use error::{AccountError, MAX_BYTES, MAX_GROUPS, MAX_ID};
pub use files::Files;
pub use request::{Ids, Name, Request};

/// The annotation of a container that says what its image's groups mean.
pub const GROUPS: &str = "dev.cuddy.groups";

/// The value of [`GROUPS`] by which the groups that the image gives the user are added.
pub const MERGE: &str = "merge";
