//! System calls that no safe library offers, for host and guest alike. Each module makes one of
//! them safe and knows nothing of its use. The calls that only the agent needs are in its own
//! `sys`. Beside the calls, [`escapes`] knows how the kernel writes names into its tables.
//!
//! These were looked at and not taken:
//! - libbpf is C and brings libelf and zlib.
//! - `aya` loads ELF objects, not instructions that are made at run time.
//! - `rustix` has the flags of mount_setattr(2) but not the call.

pub mod bpf;
pub mod clone;
pub mod escapes;
pub mod loop_device;
pub mod mount;
pub mod peer;
pub mod tap;
pub mod user_namespace;
