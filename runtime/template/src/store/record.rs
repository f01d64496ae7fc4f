//! What is written down of a template, for programs and people.

use serde::{Deserialize, Serialize};
use vmm_api::KernelDigest;

use crate::Recipe;

/// The content of `template.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What it is made of.
    pub recipe: Recipe,
    /// The kernel's SHA-256. It holds for as long as the kernel's identity does.
    pub kernel: KernelDigest,
    /// When it was built, in seconds since the Unix epoch.
    pub built_unix_s: u64,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
    /// How long the guest's boot took until its agent served, in microseconds, without what the
    /// machine waited for a CPU. It tells how fast the host is.
    pub booted_in_us: u64,
}
