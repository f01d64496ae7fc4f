//! One layer's way into the store: a worker writes it, and the store keeps it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::jobs::{Made, Received};
use super::{Cause, Pull};
use crate::store::{Lease, StoreError};
use crate::worker::Call;
use crate::worker::words::{Job, Told, Wanted};

/// How often a layer is asked for. The server that sent other content is asked last the next time.
const ATTEMPTS: usize = 2;

/// Brings a layer into the store; the lease that keeps it. `received` counts the bytes that come.
pub(super) async fn layer(pull: Pull, wanted: Wanted, received: Received) -> Made {
    let closed = |error: tokio::sync::AcquireError| Cause::Stopped(error.to_string());
    let slot = Arc::new(pull.slots.clone().acquire_owned().await.map_err(closed)?);
    let mut attempts = 0;
    loop {
        let lease = pull.store.lease();
        // It may have come since the job was asked for, also out of another blob.
        if lease.find(&wanted.diff_id) {
            return Ok(Arc::new(lease));
        }
        received.store(0, Ordering::Relaxed);
        attempts += 1;
        let attempt =
            Attempt { pull: pull.clone(), wanted: wanted.clone(), received: received.clone() };
        match attempt.start(lease, Arc::clone(&slot)).await {
            Err(Cause::Registry(refusal)) if attempts < ATTEMPTS && refusal.is_of_content() => {
                log::warn!("asking once more for layer {}: {refusal}", wanted.blob.digest);
            }
            made => return made.map(Arc::new),
        }
    }
}

/// One attempt. It goes on for a moment when nobody waits for it any more.
struct Attempt {
    pull: Pull,
    wanted: Wanted,
    received: Received,
}

/// Where the lease is wanted that has the layer; closed when nobody waits any more.
type Asked = oneshot::Sender<Result<Lease, Cause>>;

impl Attempt {
    /// The place among those that convert is kept until nothing of it goes on.
    async fn start(self, lease: Lease, slot: Arc<OwnedSemaphorePermit>) -> Result<Lease, Cause> {
        let (mut asked, made) = oneshot::channel();
        tokio::spawn(async move {
            let made = self.run(lease, &mut asked).await;
            if let Err(Ok(lease)) = asked.send(made) {
                // Whoever gave it up has looked for what is left, maybe before this was there.
                drop(lease);
                let store = self.pull.store.clone();
                let collected = blocking(move || store.collect()).await;
                collected.unwrap_or_else(|error| log::error!("image store: {error}"));
            }
            drop(slot);
        });
        made.await.unwrap_or_else(|error| Err(Cause::Stopped(error.to_string())))
    }

    async fn run(&self, lease: Lease, asked: &mut Asked) -> Result<Lease, Cause> {
        let store = self.pull.store.clone();
        let staged = blocking(move || store.stage()).await?;
        let job = Job::Layer(self.wanted.clone());
        let mut call = self.pull.worker.call(&job, &[staged.file().as_fd()]).await?;
        let heard = tokio::select! {
            heard = self.hear(&mut call) => heard,
            () = asked.closed() => {
                call.give_up().await;
                Err(Cause::Stopped("nobody waits for it any more".to_owned()))
            }
        };
        heard?;
        let diff_id = self.wanted.diff_id.clone();
        blocking(move || lease.keep(staged, &diff_id).map(|()| lease)).await
    }

    /// Listens until the worker has made it.
    async fn hear(&self, call: &mut Call) -> Result<(), Cause> {
        loop {
            match call.told().await? {
                Ok(Told::Received(bytes)) => self.received.store(bytes, Ordering::Relaxed),
                Ok(Told::Done) => return Ok(()),
                Ok(told) => return Err(Call::unexpected(&told).into()),
                Err(failure) => return Err(Cause::of_layer(&self.wanted.blob.digest, failure)),
            }
        }
    }
}

/// Waits for the disk on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Cause> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Cause::stopped(&error))??)
}
