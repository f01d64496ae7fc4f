//! A driver's queues and memory as the device that serves them has them.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::device::{ActiveQueue, Position};
use crate::interrupt::Interrupt;
use crate::queue::{Chain, ChainError, Descriptors, QueueError, collect, pop, push};

/// The first token that a device may use for its own descriptors; above all queue positions.
pub(crate) const FIRST_TOKEN: u64 = 1 << 16;

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
    /// As [`Activation::note`].
    pub(crate) note: Option<u32>,
    pub(super) epoll: Epoll,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) parking: Arc<AtomicBool>,
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

    /// Puts the chain that was taken last from the queue at `position` back, untouched.
    pub(crate) fn put_back(&mut self, position: usize) {
        self.queues[position].queue.go_to_previous_position();
    }

    /// How far each queue has come.
    pub(super) fn positions(&self) -> Vec<Position> {
        let position = |ActiveQueue { queue, .. }: &ActiveQueue| Position {
            next_avail: queue.next_avail(),
            next_used: queue.next_used(),
        };
        self.queues.iter().map(position).collect()
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
