//! What pods were last known to use: one that does not answer is told so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use api::usage::Census;
use shim_client::Any;

use crate::row;

/// What one pod uses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// When it was asked, in nanoseconds since 1970; 0: never.
    pub(crate) at: i64,
    /// Whether that was just now, and not some time before.
    pub(crate) live: bool,
    /// All of it.
    pub(crate) pod: Option<Any>,
    /// Its containers, by id.
    pub(crate) containers: BTreeMap<String, Any>,
    /// What the agent counts itself, by the container's id.
    pub(crate) census: BTreeMap<String, Census>,
    /// Its interfaces.
    pub(crate) interfaces: Vec<network::Counters>,
}

/// What was last known of pods, by id.
#[derive(Debug, Default)]
pub(crate) struct LastKnown(Mutex<HashMap<String, Known>>);

impl LastKnown {
    /// What was last known of a pod; nothing of one that never answered.
    pub(crate) fn get(&self, pod: &str) -> Known {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Known { live: false, ..known.get(pod).cloned().unwrap_or_default() }
    }

    /// Knows this of a pod from now on, and nothing more of those that are not among `pods`.
    pub(crate) fn put(&self, pod: &str, new: Known, pods: &BTreeMap<String, Arc<row::Pod>>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| pods.contains_key(id));
        known.insert(pod.to_owned(), new);
    }
}
