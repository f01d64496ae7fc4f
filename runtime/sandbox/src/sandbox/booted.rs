//! A machine whose guest serves, and the wait for it.

use std::sync::Arc;

use api::Error;
use machine::Live;
use tokio::sync::watch;
use vmm_api::MachineConfig;

use crate::network::Joined;
use crate::storage::Volumes;

/// A machine whose guest serves, and what its containers have in common.
#[derive(Debug, Clone)]
pub(super) struct Booted {
    pub(super) live: Live,
    /// Volumes that several containers may have.
    pub(super) volumes: Arc<Volumes>,
    pub(super) network: Joined,
    /// What the pod was given of the machine, which may have more.
    pub(super) size: MachineConfig,
    /// What its containers may use together of the memory, in bytes, as it was configured; 0 for all.
    pub(super) containers_limit: u64,
}

/// Where the outcome of a boot is told.
pub(super) type Outcome = watch::Receiver<Option<Result<Booted, Error>>>;

/// Waits for a boot that somebody began.
pub(super) async fn booted(mut boot: Outcome) -> Result<Booted, Error> {
    let outcome = boot.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
    outcome.unwrap_or_else(|| Err(Error::Failed("the boot was abandoned".into())))
}
