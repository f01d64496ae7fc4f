//! How a worker empties a queue.

use std::time::Instant;

use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::active::{Active, WorkerError, pop_raw};
use super::coalescing::Coalescing;
use crate::device::ActiveQueue;
use crate::queue::{Chain, Descriptors, asked, collect, under_way};

impl Active {
    /// Serves the chains of the queue at `position`, one after another, each with `serve`,
    /// which says how many bytes it wrote. Broken chains are given back unserved.
    ///
    /// Stops after as many chains as the queue is long and comes back later: otherwise a driver
    /// that is always faster would keep other events from having their turn. When the device is
    /// to stop, takes no chain after the present one. The attack: a queue full of requests that
    /// take a second each keeps the machine from being ended.
    ///
    /// # Errors
    /// [`WorkerError`] if the queue is corrupt or the interrupt can't be raised.
    pub(crate) fn drain(
        &mut self,
        position: usize,
        serve: impl FnMut(&GuestMemoryMmap, &Chain) -> usize,
    ) -> Result<(), WorkerError> {
        self.turn(position, None, collected(position, serve))
    }

    /// As [`Active::drain`], for devices that read descriptors themselves.
    ///
    /// # Errors
    /// [`WorkerError`] if the queue is corrupt or the interrupt can't be raised.
    pub(crate) fn drain_raw(
        &mut self,
        position: usize,
        serve: impl FnMut(&GuestMemoryMmap, Descriptors<'_>) -> usize,
    ) -> Result<(), WorkerError> {
        self.turn(position, None, serve)
    }

    /// As [`Active::drain`], with fewer interrupts for a driver that has much under way.
    ///
    /// # Errors
    /// [`WorkerError`] if the queue is corrupt or the interrupt can't be raised.
    pub(crate) fn drain_coalescing(
        &mut self,
        position: usize,
        coalescing: &mut Coalescing,
        serve: impl FnMut(&GuestMemoryMmap, &Chain) -> usize,
    ) -> Result<(), WorkerError> {
        self.turn(position, Some(coalescing), collected(position, serve))
    }

    fn turn(
        &mut self,
        position: usize,
        mut coalescing: Option<&mut Coalescing>,
        mut serve: impl FnMut(&GuestMemoryMmap, Descriptors<'_>) -> usize,
    ) -> Result<(), WorkerError> {
        self.notifications(position, false)?;
        let mut done = Vec::new();
        for _ in 0..self.queues[position].queue.size() {
            if self.stopping() {
                return self.give_back(position, &mut done);
            }
            let Some(chain) = pop_raw(&mut self.queues[position], &self.memory)? else {
                match self.more(position, &mut done, coalescing.as_deref_mut())? {
                    true => continue,
                    false => return Ok(()),
                }
            };
            let (head, began) = (chain.head_index(), Instant::now());
            let written = serve(&self.memory, chain);
            // A chain holds at most 4 GiB less one byte (§2.7.5.2), which virtio-queue enforces.
            done.push((head, u32::try_from(written).unwrap_or(u32::MAX)));
            let enough = coalescing.as_mut().map_or(1, |coalescing| {
                coalescing.served(began.elapsed());
                coalescing.enough()
            });
            if done.len() >= enough {
                self.give_back(position, &mut done)?;
            }
        }
        self.give_back(position, &mut done)?;
        self.kick_later(position)
    }

    /// For a queue without chains: whether there is one now. Else all that is `done` is given back.
    fn more(
        &mut self,
        position: usize,
        done: &mut Vec<(u16, u32)>,
        coalescing: Option<&mut Coalescing>,
    ) -> Result<bool, WorkerError> {
        if let Some(coalescing) = coalescing
            && self.asks_for_more(position, done.len(), coalescing)?
        {
            return Ok(true);
        }
        self.give_back(position, done)?;
        // The driver may have added one before it could know that it must notify.
        self.notifications(position, true)
    }

    /// Whether the driver adds a chain while so many that are `done` wait to be given back.
    fn asks_for_more(
        &self,
        position: usize,
        done: usize,
        coalescing: &mut Coalescing,
    ) -> Result<bool, WorkerError> {
        let ActiveQueue { queue, index, .. } = &self.queues[position];
        let corrupt = |source| WorkerError::Queue { index: *index, source };
        coalescing.under_way(under_way(queue, &self.memory).map_err(corrupt)?);
        if done == 0 || done >= coalescing.enough() {
            return Ok(false);
        }
        let (began, patience) = (Instant::now(), coalescing.patience());
        // Not by an event: the driver would have to leave the guest for each request.
        while began.elapsed() < patience && !self.stopping() {
            if asked(queue, &self.memory).map_err(corrupt)? {
                return Ok(true);
            }
            std::hint::spin_loop();
        }
        Ok(false)
    }

    fn give_back(
        &mut self,
        position: usize,
        done: &mut Vec<(u16, u32)>,
    ) -> Result<(), WorkerError> {
        if !done.is_empty() {
            self.complete_all(position, done)?;
            done.clear();
        }
        Ok(())
    }
}

/// Has `serve` get checked chains. Broken ones are given back unserved.
fn collected(
    position: usize,
    mut serve: impl FnMut(&GuestMemoryMmap, &Chain) -> usize,
) -> impl FnMut(&GuestMemoryMmap, Descriptors<'_>) -> usize {
    move |memory, descriptors| {
        let served = collect(descriptors, memory).map(|chain| serve(memory, &chain));
        served.unwrap_or_else(|error| {
            guest_warn!("queue {position}: request dropped: {error}");
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::device::Description;
    use crate::fake_driver::{Driver, spawner};
    use crate::worker::{Backend, ThreadKind, Worker};

    /// Each request takes until the device is to stop.
    struct Slow {
        started: mpsc::Sender<()>,
        served: Arc<AtomicUsize>,
    }

    impl Backend for Slow {
        fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
            let stopping = Arc::clone(&active.stopping);
            active.drain(queue, |_, _| {
                let _ = self.started.send(());
                wait_for(&stopping);
                self.served.fetch_add(1, Ordering::Relaxed);
                0
            })
        }
    }

    fn wait_for(stopping: &AtomicBool) {
        while !stopping.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_full_queue_does_not_delay_a_reset() {
        let (started, begun) = mpsc::channel();
        let served = Arc::new(AtomicUsize::new(0));
        let backend = Slow { started, served: Arc::clone(&served) };
        let (features, config) = (0, Vec::new());
        let description = Description { device_id: 4, features, queue_sizes: vec![16], config };
        let device = Worker::spawn(&spawner(), ThreadKind::Rng, description, backend).unwrap();
        let mut driver = Driver::ready(device);
        let piece = driver.space(16);
        for rounds in 1..3 {
            for _ in 0..8 {
                driver.submit_silently(0, &[piece]);
            }
            driver.write(0x50, 0);
            begun.recv().unwrap();
            driver.write(0x70, 0);
            assert_eq!(served.load(Ordering::Relaxed), rounds);
            driver.negotiate(u64::MAX);
        }
    }

    /// A disk's way with requests that take no time, and the number of them.
    #[derive(Default)]
    struct Quick(Coalescing);

    impl Backend for Quick {
        fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
            active.drain_coalescing(queue, &mut self.0, |_, chain| chain.writable.len())
        }
    }

    fn quick() -> Driver {
        let (features, config) = (crate::mmio::VIRTIO_F_EVENT_IDX, Vec::new());
        let description = Description { device_id: 4, features, queue_sizes: vec![64], config };
        let backend = Quick::default();
        Driver::ready(Worker::spawn(&spawner(), ThreadKind::Rng, description, backend).unwrap())
    }

    #[test]
    fn everything_is_given_back_without_another_word() {
        let mut driver = quick();
        let piece = driver.space(16);
        for count in (1..40).chain((1..40).rev()) {
            for _ in 0..count {
                driver.submit(0, &[piece]);
            }
            for _ in 0..count {
                assert_eq!(driver.used(0).1, 16);
            }
            assert_eq!(driver.poll_used(0), None);
        }
    }

    #[test]
    fn many_requests_are_few_interrupts() {
        let mut driver = quick();
        let piece = driver.space(16);
        let submit = |driver: &mut Driver| {
            for _ in 0..32 {
                driver.submit_silently(0, &[piece]);
            }
        };
        // The driver's habits, of which the worker learns at the end of its turn.
        for _ in 0..2 {
            submit(&mut driver);
            driver.write(0x50, 0);
            for _ in 0..32 {
                driver.used(0);
            }
        }
        submit(&mut driver);
        driver.write(0x50, 0);
        let mut interrupts = 0;
        let mut back = 0;
        while back < 32 {
            driver.interrupt();
            interrupts += 1;
            while driver.poll_used(0).is_some() {
                back += 1;
            }
        }
        assert!(interrupts <= 8, "{interrupts} interrupts for 32 requests");
    }
}
