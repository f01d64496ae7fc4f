//! What a device does on its worker's thread.

use super::active::{Active, WorkerError};

/// The part of a device that runs on its worker thread.
pub(crate) trait Backend: Send + 'static {
    /// How many of the first queues a driver must have set up, at least.
    fn needs(&self) -> usize {
        usize::MAX
    }

    /// How many queues a driver that accepted `features` can have, at most.
    fn queues(&self, _features: u64) -> usize {
        usize::MAX
    }

    /// The driver is ready.
    ///
    /// # Errors
    /// [`WorkerError`] if the device can't start.
    fn start(&mut self, _active: &mut Active) -> Result<(), WorkerError> {
        Ok(())
    }

    /// The driver has notified the queue at a position in [`Active::queues`].
    ///
    /// # Errors
    /// [`WorkerError`] if the device can't go on.
    fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError>;

    /// A descriptor added with [`Active::watch`] is ready; `events` as in `epoll_wait(2)`.
    ///
    /// # Errors
    /// [`WorkerError`] if the device can't go on.
    fn ready(&mut self, _a: &mut Active, _token: u64, _events: u32) -> Result<(), WorkerError> {
        Ok(())
    }

    /// The driver's time is up; after this the worker touches its memory no more. For what must
    /// not be lost that the driver has put into a queue without a word yet. Must be over soon.
    ///
    /// # Errors
    /// [`WorkerError`] if a queue is corrupt.
    fn ending(&mut self, _active: &mut Active) -> Result<(), WorkerError> {
        Ok(())
    }

    /// The driver is gone, or served on elsewhere; its state is to be forgotten.
    fn stop(&mut self) {}

    /// The driver is to be served on elsewhere: gives chains back, or puts those that were taken
    /// and not used back into their queue. Returns a number for [`Activation::note`].
    ///
    /// # Errors
    /// What keeps the device, which then goes on as before.
    fn park(&mut self, _active: &mut Active) -> Result<u32, &'static str> {
        Ok(0)
    }
}
