//! Layers that are on their way, each once, however many pulls want it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::task::AbortHandle;

use super::PullError;
use crate::digest::Digest;
use crate::store::Lease;

/// A blob, and the archive in it that was promised.
pub(super) type Key = (Digest, Digest);

/// What a job ends with: the lease that keeps the layer until those who waited have their own.
pub(super) type Made = Result<Arc<Lease>, PullError>;

/// A layer that is on its way. It is given up when nobody has this any more.
#[derive(Debug)]
pub(super) struct Job {
    done: Shared<BoxFuture<'static, Made>>,
    task: AbortHandle,
}

impl Job {
    /// Waits for its end.
    pub(super) async fn done(&self) -> Made {
        self.done.clone().await
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<HashMap<Key, Weak<Job>>>);

impl Jobs {
    /// The job of a layer: one that goes on, or a new one; and whether it is new.
    pub(super) fn join<F>(&self, key: &Key, start: impl FnOnce() -> F) -> (Arc<Job>, bool)
    where
        F: Future<Output = Made> + Send + 'static,
    {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = jobs.get(key).and_then(Weak::upgrade);
        if let Some(job) = goes_on.filter(|job| job.done.peek().is_none()) {
            return (job, false);
        }
        let running = tokio::spawn(start());
        let task = running.abort_handle();
        let done = running
            .map(|ended| ended.unwrap_or_else(|_| Err(PullError::Ended { image: String::new() })));
        let job = Arc::new(Job { done: done.boxed().shared(), task });
        jobs.retain(|_, job| job.strong_count() > 0);
        jobs.insert(key.clone(), Arc::downgrade(&job));
        (job, true)
    }
}
