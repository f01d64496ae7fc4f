//! Layers that are on their way, each once, however many pulls want it.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::task::AbortHandle;

use super::Cause;
use crate::store::Lease;
use crate::worker::words::Wanted;

/// What a job ends with: the lease that keeps the layer until those who waited have their own.
pub(super) type Made = Result<Arc<Lease>, Cause>;

/// A layer that is on its way. It is given up when nobody has this any more.
#[derive(Debug)]
pub(super) struct Job {
    done: Shared<BoxFuture<'static, Made>>,
    task: AbortHandle,
    received: Received,
}

/// Bytes of a layer that have come.
pub(super) type Received = Arc<AtomicU64>;

impl Job {
    /// Waits for its end.
    pub(super) async fn done(&self) -> Made {
        self.done.clone().await
    }

    /// How much of it has come, now and later.
    pub(super) fn received(&self) -> Received {
        Arc::clone(&self.received)
    }

    fn has_failed(&self) -> bool {
        matches!(self.done.peek(), Some(Err(_)))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<HashMap<Wanted, Weak<Job>>>);

impl Jobs {
    /// The job of a layer: one that goes on or has made it, or a new one; and whether it is new.
    pub(super) fn join<F>(
        &self,
        wanted: &Wanted,
        start: impl FnOnce(Received) -> F,
    ) -> (Arc<Job>, bool)
    where
        F: Future<Output = Made> + Send + 'static,
    {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = jobs.get(wanted).and_then(Weak::upgrade);
        if let Some(job) = goes_on.filter(|job| !job.has_failed()) {
            return (job, false);
        }
        let received = Received::default();
        let running = tokio::spawn(start(Arc::clone(&received)));
        let task = running.abort_handle();
        let done = running.map(|ended| ended.unwrap_or_else(|error| Err(Cause::stopped(&error))));
        let job = Arc::new(Job { done: done.boxed().shared(), task, received });
        jobs.retain(|_, job| job.strong_count() > 0);
        jobs.insert(wanted.clone(), Arc::downgrade(&job));
        (job, true)
    }

    /// How many wait for a layer.
    #[cfg(test)]
    pub(super) fn waiting(&self, wanted: &Wanted) -> usize {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(wanted).map_or(0, Weak::strong_count)
    }
}
