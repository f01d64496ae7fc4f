//! What a worker does between activation and reset.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::device::{Activation, ActiveQueue, FailureReport};
use crate::interrupt::Interrupt;
use crate::queue::{Chain, ChainError, Descriptors, QueueError, collect, pop, push};

/// Token of the event that ends the loop. Queues have their position as token; a device's own
/// descriptors have tokens from [`FIRST_TOKEN`] on.
const STOP_TOKEN: u64 = u64::MAX;

/// The first token that a device may use for its own descriptors; above all queue positions.
pub(crate) const FIRST_TOKEN: u64 = 1 << 16;

/// Events taken from the kernel at once.
const EVENTS: usize = 32;

/// Why a device can't go on. The driver sees `DEVICE_NEEDS_RESET`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The driver set up queues that its features don't have.
    #[error("{count} queues set up, but the accepted features have {most} at most")]
    Queues {
        /// How many are set up.
        count: usize,
        /// How many there can be.
        most: usize,
    },
    /// The driver corrupted a queue.
    #[error("queue {index}: {source}")]
    Queue {
        /// Which queue.
        index: u16,
        /// What is wrong with it.
        source: QueueError,
    },
    /// The host refused something.
    #[error("{action}: {source}")]
    Host {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl WorkerError {
    /// For `map_err`: the queue `index` is corrupt.
    pub(super) fn queue(index: u16) -> impl FnOnce(QueueError) -> Self {
        move |source| Self::Queue { index, source }
    }

    /// For `map_err`: a host error while doing `action`.
    pub(crate) fn host(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { action, source }
    }
}

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

    /// The driver is gone; its state is to be forgotten.
    fn stop(&mut self) {}
}

/// How the owner of a worker tells it to stop.
#[derive(Debug)]
pub(super) struct Stop {
    /// Wakes the worker.
    pub(super) event: Arc<EventFd>,
    /// Set before `event` is written, for a worker that does not look at events just then.
    pub(super) soon: Arc<AtomicBool>,
}

/// A driver's queues and memory while the device is active.
#[derive(Debug)]
pub(crate) struct Active {
    /// The guest's memory.
    pub(crate) memory: GuestMemoryMmap,
    /// Features that the driver accepted.
    pub(crate) features: u64,
    /// The queues that the driver has set up: all that the device has, or the first ones.
    pub(crate) queues: Vec<ActiveQueue>,
    pub(super) interrupt: Interrupt,
    epoll: Epoll,
    pub(super) stopping: Arc<AtomicBool>,
}

impl Active {
    /// Calls [`Backend::ready`] with `token` (at least [`FIRST_TOKEN`]) whenever the descriptor
    /// is ready for `events`, until the descriptor is closed.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn watch(&self, fd: RawFd, events: EventSet, token: u64) -> io::Result<()> {
        self.epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, token))
    }

    fn watch_queues(&self, stop: &Stop) -> Result<(), WorkerError> {
        self.watch(stop.event.as_raw_fd(), EventSet::IN, STOP_TOKEN)
            .map_err(WorkerError::host("watch stop event"))?;
        for (token, queue) in (0..).zip(&self.queues) {
            // An edge saves reading the event, whose counter then only ever grows.
            self.watch(queue.kick.as_raw_fd(), EventSet::IN | EventSet::EDGE_TRIGGERED, token)
                .map_err(WorkerError::host("watch queue"))?;
        }
        Ok(())
    }

    /// Leaves the kicks of the queue at `position` to the host's kernel, which is to signal the
    /// event returned when it has used buffers.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn hand_over(&self, position: usize) -> io::Result<&EventFd> {
        let (kick, none) = (self.queues[position].kick.as_raw_fd(), EpollEvent::default());
        self.epoll.ctl(ControlOperation::Delete, kick, none)?;
        Ok(self.interrupt.line())
    }

    /// Takes the next chain from the queue at `position`: the index to give it back with, and
    /// its content or what is wrong with it.
    ///
    /// # Errors
    /// [`WorkerError::Queue`] if the queue is corrupt.
    pub(crate) fn pop(&mut self, position: usize) -> Result<Option<Popped>, WorkerError> {
        let Self { queues, memory, .. } = self;
        let next = pop_raw(&mut queues[position], memory)?;
        Ok(next.map(|descriptors| (descriptors.head_index(), collect(descriptors, memory))))
    }

    /// Whether the device is to stop soon.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Gives back a chain into which the device wrote `written` bytes, and interrupts the
    /// driver if it asked for that.
    ///
    /// # Errors
    /// [`WorkerError`] if the queue is corrupt or the interrupt can't be raised.
    pub(crate) fn complete(
        &mut self,
        position: usize,
        head: u16,
        written: usize,
    ) -> Result<(), WorkerError> {
        // A chain holds at most 4 GiB less one byte (§2.7.5.2), which virtio-queue enforces.
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        self.complete_all(position, &[(head, written)])
    }

    /// Gives back several chains at once, each with the number of bytes written into it: the
    /// driver sees all of them or none.
    ///
    /// # Errors
    /// [`WorkerError`] if the queue is corrupt or the interrupt can't be raised.
    pub(crate) fn complete_all(
        &mut self,
        position: usize,
        used: &[(u16, u32)],
    ) -> Result<(), WorkerError> {
        let Self { queues, memory, interrupt, .. } = self;
        give_back(&mut queues[position], memory, interrupt, used)
    }

    /// Tells the driver whether to notify the queue at `position`; when turning that on, says
    /// whether chains came in before the driver could know.
    ///
    /// # Errors
    /// [`WorkerError::Queue`] if the queue is corrupt.
    pub(crate) fn notifications(&mut self, position: usize, on: bool) -> Result<bool, WorkerError> {
        let ActiveQueue { queue, index, .. } = &mut self.queues[position];
        if on {
            queue.enable_notification(&self.memory)
        } else {
            queue.disable_notification(&self.memory).map(|()| false)
        }
        .map_err(|error| WorkerError::queue(*index)(error.into()))
    }

    /// Comes back to the queue at `position` after other events have had their turn.
    ///
    /// # Errors
    /// [`WorkerError::Host`] if the event can't be written.
    pub(crate) fn kick_later(&self, position: usize) -> Result<(), WorkerError> {
        self.queues[position].kick.write(1).map_err(WorkerError::host("kick own queue"))
    }
}

/// A chain taken from a queue: the index to give it back with, and its content or what is wrong
/// with it.
pub(crate) type Popped = (u16, Result<Chain, ChainError>);

pub(super) fn pop_raw<'a>(
    queue: &mut ActiveQueue,
    memory: &'a GuestMemoryMmap,
) -> Result<Option<Descriptors<'a>>, WorkerError> {
    let ActiveQueue { queue, index, .. } = queue;
    pop(queue, memory).map_err(WorkerError::queue(*index))
}

/// As [`Active::complete_all`].
pub(super) fn give_back(
    queue: &mut ActiveQueue,
    memory: &GuestMemoryMmap,
    interrupt: &Interrupt,
    used: &[(u16, u32)],
) -> Result<(), WorkerError> {
    let ActiveQueue { queue, index, .. } = queue;
    if push(queue, memory, used).map_err(WorkerError::queue(*index))? {
        interrupt.signal_used().map_err(WorkerError::host("raise interrupt"))?;
    }
    Ok(())
}

/// Serves a driver until `stop` says so or the device fails.
#[cfg(not(fuzzing))]
pub(super) fn serve<B: Backend>(backend: &mut B, activation: Activation, stop: &Stop) {
    let (begun, failed) = begin(backend, activation, stop);
    let served = begun.and_then(|mut active| {
        while turn(backend, &mut active, -1)? != Turn::Over {}
        Ok(())
    });
    end(backend, served, failed);
}

/// Starts to serve a driver.
pub(super) fn begin<B: Backend>(
    backend: &mut B,
    activation: Activation,
    stop: &Stop,
) -> (Result<Active, WorkerError>, FailureReport) {
    let Activation { memory, features, queues, interrupt, failed } = activation;
    let begun = Epoll::new().map_err(WorkerError::host("create epoll")).and_then(|epoll| {
        let stopping = Arc::clone(&stop.soon);
        let mut active = Active { memory, features, queues, interrupt, epoll, stopping };
        let (count, most) = (active.queues.len(), backend.queues(active.features));
        if count > most {
            return Err(WorkerError::Queues { count, most });
        }
        active.watch_queues(stop)?;
        backend.start(&mut active)?;
        Ok(active)
    });
    (begun, failed)
}

/// Ends the service of a driver, whether it was asked for or the device failed.
pub(super) fn end<B: Backend>(
    backend: &mut B,
    served: Result<(), WorkerError>,
    failed: FailureReport,
) {
    backend.stop();
    if let Err(error) = served {
        failed.send(error.to_string());
    }
}

/// What there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing, for as long as it was waited for.
    Idle,
    /// Some events were served.
    Served,
    /// The driver's time is up.
    Over,
}

/// Serves what has happened, or what happens next within `patience` milliseconds; -1 is for ever.
pub(super) fn turn<B: Backend>(
    backend: &mut B,
    active: &mut Active,
    patience: i32,
) -> Result<Turn, WorkerError> {
    let mut events = [EpollEvent::default(); EVENTS];
    let count = match active.epoll.wait(patience, &mut events) {
        Ok(0) => return Ok(Turn::Idle),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Turn::Served),
        Err(source) => return Err(WorkerError::Host { action: "wait for events", source }),
    };
    for event in &events[..count] {
        match usize::try_from(event.data()) {
            _ if event.data() == STOP_TOKEN => {
                // The owner waits for the end: what is left has its own bounds.
                active.stopping.store(false, Ordering::Relaxed);
                backend.ending(active)?;
                return Ok(Turn::Over);
            }
            Ok(position) if position < active.queues.len() => {
                backend.kicked(active, position)?;
            }
            _ => backend.ready(active, event.data(), event.events())?,
        }
    }
    Ok(Turn::Served)
}
