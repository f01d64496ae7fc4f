//! How long calls to a shim may take, unless the caller says less.

use std::time::Duration;

/// A call that a shim answers from what it knows.
pub(crate) const ASK: Duration = Duration::from_secs(30);

/// A call that does work, as one that boots a machine: what the kubelet gives to the start of a
/// pod. A shim has limits of its own below this, and its errors say more.
pub(crate) const WORK: Duration = Duration::from_secs(240);
