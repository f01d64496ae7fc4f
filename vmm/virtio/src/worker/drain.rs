//! How a worker empties a queue.

use std::time::Instant;

use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::active::{Active, WorkerError, give_back, pop_raw};
use super::coalescing::Coalescing;
use crate::device::ActiveQueue;
use crate::queue::{Chain, Descriptors, asked, collect, under_way};

/// Which of a queue's chains wait after they were served.
struct Hold<'a> {
    coalescing: &'a mut Coalescing,
    quick: &'a dyn Fn(&GuestMemoryMmap, Descriptors<'_>) -> bool,
}

/// Chains that were served and of which the driver does not know yet, with the number of bytes
/// written into each.
type Done = Vec<(u16, u32)>;

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

    /// As [`Active::drain`], with fewer interrupts for a driver that has much under way. Nothing
    /// that is done waits for a chain of which `quick` says that it is none.
    ///
    /// # Errors
    /// [`WorkerError`] if the queue is corrupt or the interrupt can't be raised.
    pub(crate) fn drain_coalescing(
        &mut self,
        position: usize,
        coalescing: &mut Coalescing,
        quick: impl Fn(&GuestMemoryMmap, Descriptors<'_>) -> bool,
        serve: impl FnMut(&GuestMemoryMmap, &Chain) -> usize,
    ) -> Result<(), WorkerError> {
        let hold = Hold { coalescing, quick: &quick };
        self.turn(position, Some(hold), collected(position, serve))
    }

    fn turn(
        &mut self,
        position: usize,
        hold: Option<Hold<'_>>,
        serve: impl FnMut(&GuestMemoryMmap, Descriptors<'_>) -> usize,
    ) -> Result<(), WorkerError> {
        let mut done = Done::new();
        let empty = self.serve_all(position, &mut done, hold, serve);
        // What was carried out is said, also when the queue is found corrupt behind it.
        self.give_back(position, &mut done)?;
        if empty? || self.stopping() { Ok(()) } else { self.kick_later(position) }
    }

    /// Serves chains until there are none, or as many as the queue is long, or the device is to
    /// stop; whether there are none.
    fn serve_all(
        &mut self,
        position: usize,
        done: &mut Done,
        mut hold: Option<Hold<'_>>,
        mut serve: impl FnMut(&GuestMemoryMmap, Descriptors<'_>) -> usize,
    ) -> Result<bool, WorkerError> {
        self.notifications(position, false)?;
        for _ in 0..self.queues[position].queue.size() {
            if self.stopping() {
                return Ok(false);
            }
            let Some(chain) = pop_raw(&mut self.queues[position], &self.memory)? else {
                match self.more(position, done, hold.as_mut())? {
                    true => continue,
                    false => return Ok(true),
                }
            };
            let quick = hold.as_mut().filter(|hold| (hold.quick)(&self.memory, chain.clone()));
            if quick.is_none() && !done.is_empty() {
                give_back(&mut self.queues[position], &self.memory, &self.interrupt, done)?;
                done.clear();
            }
            let timed = quick.map(|hold| (hold, Instant::now()));
            let head = chain.head_index();
            let written = serve(&self.memory, chain);
            // A chain holds at most 4 GiB less one byte (§2.7.5.2), which virtio-queue enforces.
            done.push((head, u32::try_from(written).unwrap_or(u32::MAX)));
            let enough = match timed {
                Some((Hold { coalescing, .. }, began)) => {
                    coalescing.served(began, Instant::now());
                    coalescing.under_way(self.under_way(position)?);
                    coalescing.enough()
                }
                None => 1,
            };
            if done.len() >= enough {
                self.give_back(position, done)?;
            }
        }
        Ok(false)
    }

    /// For a queue without chains: whether there is one now. Else all that is `done` is given back.
    fn more(
        &mut self,
        position: usize,
        done: &mut Done,
        hold: Option<&mut Hold<'_>>,
    ) -> Result<bool, WorkerError> {
        if let Some(Hold { coalescing, .. }) = hold {
            let now = Instant::now();
            coalescing.idle(now);
            if !done.is_empty() && self.asks_for_more(position, now, coalescing)? {
                return Ok(true);
            }
        }
        self.give_back(position, done)?;
        // The driver may have added one before it could know that it must notify.
        self.notifications(position, true)
    }

    /// Whether the driver adds a chain while it is waited for.
    fn asks_for_more(
        &self,
        position: usize,
        began: Instant,
        coalescing: &mut Coalescing,
    ) -> Result<bool, WorkerError> {
        let ActiveQueue { queue, index, .. } = &self.queues[position];
        let patience = coalescing.patience();
        // Not by an event: the driver would have to leave the guest for each request.
        while began.elapsed() < patience && !self.stopping() {
            if asked(queue, &self.memory).map_err(WorkerError::queue(*index))? {
                return Ok(true);
            }
            std::hint::spin_loop();
        }
        coalescing.disappointed();
        Ok(false)
    }

    fn under_way(&self, position: usize) -> Result<u16, WorkerError> {
        let ActiveQueue { queue, index, .. } = &self.queues[position];
        under_way(queue, &self.memory).map_err(WorkerError::queue(*index))
    }

    fn give_back(&mut self, position: usize, done: &mut Done) -> Result<(), WorkerError> {
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
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::device::Description;
    use crate::fake_driver::{Driver, finished, spawner};
    use crate::worker::{Backend, Worker};

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

    fn described(features: u64, queue_size: u16, config: Vec<u8>) -> Description {
        let (device_id, queue_sizes, unsavable) = (4, vec![queue_size], None);
        Description { device_id, features, queue_sizes, config, unsavable }
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
        let description = described(features, 16, config);
        let device = Worker::spawn(&spawner(), crate::rng::THREAD, description, backend).unwrap();
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

    /// A disk's way with requests of one buffer, which take no time, and with others, which take
    /// until a word comes. Notes how many requests the driver knows to be finished, for each.
    struct Quick(Coalescing, mpsc::Receiver<()>, mpsc::Sender<u16>);

    impl Backend for Quick {
        fn kicked(&mut self, active: &mut Active, queue: usize) -> Result<(), WorkerError> {
            let quick = |_: &GuestMemoryMmap, chain: Descriptors<'_>| chain.count() == 1;
            active.drain_coalescing(queue, &mut self.0, quick, |memory, chain| {
                let _ = self.2.send(finished(memory, 0));
                match chain.readable.len() {
                    0 => chain.writable.len(),
                    // The driver is to have everything before this one, however long it takes.
                    _ => self.1.recv().map_or(0, |()| 0),
                }
            })
        }
    }

    fn quick() -> (Driver, mpsc::Sender<()>, mpsc::Receiver<u16>) {
        let (word, received) = mpsc::channel();
        let (note, notes) = mpsc::channel();
        let (features, config) = (crate::mmio::VIRTIO_F_EVENT_IDX, Vec::new());
        let description = described(features, 64, config);
        let backend = Quick(Coalescing::default(), received, note);
        let device = Worker::spawn(&spawner(), crate::rng::THREAD, description, backend).unwrap();
        (Driver::ready(device), word, notes)
    }

    #[test]
    fn everything_is_given_back_without_another_word() {
        let (mut driver, _word, _notes) = quick();
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
    fn many_requests_are_given_back_together() {
        let (mut driver, _word, notes) = quick();
        let piece = driver.space(16);
        // The driver's habits are known after the first rounds.
        let mut told = BTreeSet::new();
        for _ in 0..3 {
            for _ in 0..32 {
                driver.submit_silently(0, &[piece]);
            }
            driver.write(0x50, 0);
            for _ in 0..32 {
                driver.used(0);
            }
            told = notes.try_iter().collect();
        }
        assert!(told.len() <= 16, "the driver is told of 32 requests one by one: {told:?}");
    }

    #[test]
    fn nothing_waits_for_a_slow_request() {
        let (mut driver, word, _notes) = quick();
        let (piece, slow) = (driver.space(16), driver.out(&[0; 16]));
        for _ in 0..3 {
            for _ in 0..7 {
                driver.submit_silently(0, &[piece]);
            }
            let last = driver.submit(0, &[slow, piece]);
            for _ in 0..7 {
                assert_eq!(driver.used(0).1, 16);
            }
            word.send(()).unwrap();
            assert_eq!(driver.used(0), (last, 0));
        }
    }
}
